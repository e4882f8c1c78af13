-- ARGV: how many to publish, done, retry, dead; then the messages to publish (see `publish`); of those done
-- queue, class, how many of them come one after another, and ID:TOKEN of each; queue, class, ID:TOKEN, delay_ms,
-- counted of each to retry; queue, class, ID:TOKEN and the reason of each dead. Returns the places, from 0, of
-- those lost, done first.
local published, done = tonumber(ARGV[1]), tonumber(ARGV[2])
local retried, dead = tonumber(ARGV[3]), tonumber(ARGV[4])
local base, at, lost = 0, 5, {}
local added = published + retried + dead

-- Ends claims and removes their messages, with one command for all of each kind: most that is settled is
-- settled here. `place`: of the first.
local function finish(queue, class, first, many, place)
  local claims, members = P .. ':x:' .. queue, {}
  for number = 1, many do members[number] = class .. ':' .. ARGV[first + number - 1] end
  local lapses = redis.call('ZMSCORE', claims, unpack(members))
  local ended, ids, seen = {}, {}, {}
  for number, member in ipairs(members) do
    if lapses[number] and tonumber(lapses[number]) > now and not seen[member] then
      seen[member] = true
      ended[#ended + 1] = member
      ids[#ids + 1] = string.match(ARGV[first + number - 1], '^%d+') .. '-0'
    else
      lost[#lost + 1] = place + number - 1
    end
  end
  if #ended > 0 then
    redis.call('ZREM', claims, unpack(ended))
    redis.call('XDEL', stream_of(queue, class), unpack(ids))
  end
end

-- Refused before anything is changed: a script is not rolled back.
for place = 1, dead do
  local letters = P .. ':dead:' .. ARGV[#ARGV - 4 * place + 1]
  local kind = redis.call('TYPE', letters).ok
  if kind ~= 'stream' and kind ~= 'none' then error('WRONGTYPE ' .. letters .. ' is a ' .. kind .. ', not a stream') end
end

if added > 0 then base = reserve(added) end
local id = base + published

at = publish(at, published, base)

local place = 0
while place < done do
  local many = tonumber(ARGV[at + 2])
  finish(ARGV[at], ARGV[at + 1], at + 3, many, place)
  at, place = at + 3 + many, place + many
end

for place = 0, retried - 1 do
  local queue, class = ARGV[at], ARGV[at + 1]
  local old = end_claim(queue, class, ARGV[at + 2])
  id = id + 1
  if old then
    local priority, size = split(class)
    local body, attempt = take_out(queue, class, old)
    if body then
      put(queue, priority, size, 'a', id, body, attempt + tonumber(ARGV[at + 4]), tonumber(ARGV[at + 3]))
    end
  else
    lost[#lost + 1] = done + place
  end
  at = at + 5
end

for place = 0, dead - 1 do
  local queue, class = ARGV[at], ARGV[at + 1]
  local old = end_claim(queue, class, ARGV[at + 2])
  id = id + 1
  if old then
    local priority, size = split(class)
    local body, attempt = take_out(queue, class, old)
    if body then
      bury(queue, id, body, attempt, priority, size, ARGV[at + 3])
    end
  else
    lost[#lost + 1] = done + retried + place
  end
  at = at + 4
end

if added > 0 then wake(base + added) end
return lost
