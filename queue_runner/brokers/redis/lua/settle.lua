-- ARGV: how many to publish, done, retry, dead; then 6 arguments of each message to publish (see
-- publish.lua); queue, class, id of each done; the same and delay_ms, counted of each to retry; the
-- same and the reason of each dead. Returns the places, from 0, of those lost, done first.
local published, done = tonumber(ARGV[1]), tonumber(ARGV[2])
local retried, dead = tonumber(ARGV[3]), tonumber(ARGV[4])
local base, at, lost = 0, 5, {}
local added = published + retried + dead
if added > 0 then base = reserve(added) end
local id = base + published

publish(at, published, base)
at = at + 6 * published

for place = 0, done - 1 do
  local queue, class, old = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if end_claim(queue, class, old) then
    redis.call('XDEL', stream_of(queue, class), old .. '-0')
  else
    lost[#lost + 1] = place
  end
  at = at + 3
end

for place = 0, retried - 1 do
  local queue, class, old = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  id = id + 1
  if end_claim(queue, class, old) then
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
  local queue, class, old = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  id = id + 1
  if end_claim(queue, class, old) then
    local priority, size = split(class)
    local body, attempt = take_out(queue, class, old)
    if body then
      redis.call('XADD', P .. ':dead:' .. queue, string.format('%.0f-0', id), 'body', body, 'attempt', attempt,
                 'priority', priority, 'size', size, 'reason', ARGV[at + 3], 'at_ms', now)
    end
  else
    lost[#lost + 1] = done + retried + place
  end
  at = at + 4
end

if added > 0 then wake(base + added) end
return lost
