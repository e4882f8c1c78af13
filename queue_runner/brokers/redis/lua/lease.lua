-- ARGV: limit, lease_ms, room, max_size, then the queues.
-- Returns {queue number, class, id, attempt, body} of each message claimed, the id after which a
-- wake-up is news, and the milliseconds to the next lapse or due time (-1: none is known).
local limit, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local room, max_size = tonumber(ARGV[3]), tonumber(ARGV[4])
-- What one answer may hold, and how much is read before looking at its size again.
local ANSWER_BYTES, FIRST_READ, MOST_READ = 4 * 1024 * 1024, 16, 128

local classes = {}
for number = 5, #ARGV do
  tidy(ARGV[number])
  for _, class in ipairs(redis.call('SMEMBERS', P .. ':c:' .. ARGV[number])) do
    local priority, size, lane = split(class)
    classes[#classes + 1] = {
      number = number, class = class, priority = tonumber(priority), size = tonumber(size), lane = lane,
    }
  end
end
table.sort(classes, function(one, two)
  if one.priority ~= two.priority then return one.priority > two.priority end
  if one.number ~= two.number then return one.number < two.number end
  if one.size ~= two.size then return one.size > two.size end
  return one.lane < two.lane
end)

local rows, bytes, reading = {}, 0, FIRST_READ

local function claim(class, count)
  local queue = ARGV[class.number]
  local stream = stream_of(queue, class.class)
  local answer = redis.call('XREADGROUP', 'GROUP', 'g', 'all', 'COUNT', count, 'NOACK', 'STREAMS', stream, '>')
  if not answer then
    if redis.call('XLEN', stream) == 0 then
      redis.call('DEL', stream)
      redis.call('SREM', P .. ':c:' .. queue, class.class)
    end
    return 0
  end
  local found, claims = answer[1][2], {}
  for place, entry in ipairs(found) do
    local id = string.match(entry[1], '^%d+')
    local body = entry[2][2]
    rows[#rows + 1] = {class.number - 5, class.class, id, tonumber(entry[2][4]), body}
    claims[2 * place - 1], claims[2 * place] = now + lease_ms, class.class .. ':' .. id
    bytes = bytes + #body
  end
  redis.call('ZADD', P .. ':x:' .. queue, unpack(claims))
  return #found
end

for _, class in ipairs(classes) do
  while class.size <= math.min(room, max_size) and #rows < limit and bytes < ANSWER_BYTES do
    local count = math.min(limit - #rows, math.floor(room / class.size), reading)
    local got = claim(class, count)
    room = room - got * class.size
    if got < count then break end
    reading = math.min(2 * reading, MOST_READ)
  end
end

local next_ms = -1
for number = 5, #ARGV do
  for _, kind in ipairs({':x:', ':d:'}) do
    local first = redis.call('ZRANGE', P .. kind .. ARGV[number], 0, 0, 'WITHSCORES')[2]
    if first then
      local left = math.max(0, tonumber(first) - now)
      if next_ms < 0 or left < next_ms then next_ms = left end
    end
  end
end
return {rows, redis.call('GET', P .. ':seq') or '0', next_ms}
