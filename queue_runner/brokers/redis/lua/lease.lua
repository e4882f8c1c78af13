-- ARGV: limit, lease_ms, room, max_size, token, then the queues.
-- Returns {queue number, class, then ID:TOKEN, attempt, body of each message} of what was claimed, the id after
-- which a wake-up is news, and the milliseconds to the next lapse or due time (-1: none is known).
local limit, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local room, max_size, token = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local FIRST_QUEUE = 6
-- What one answer may hold, and how much is read before looking at its size again.
local ANSWER_BYTES, FIRST_READ, MOST_READ = 4 * 1024 * 1024, 16, 128

local classes = {}
for number = FIRST_QUEUE, #ARGV do
  tidy(ARGV[number])
  for _, class in ipairs(redis.call('SMEMBERS', P .. ':c:' .. ARGV[number])) do
    local priority, size, lane = split(class)
    if priority then
      classes[#classes + 1] = {
        number = number, class = class, priority = tonumber(priority), size = tonumber(size), lane = lane,
      }
    else
      redis.call('SREM', P .. ':c:' .. ARGV[number], class)
    end
  end
end
table.sort(classes, function(one, two)
  if one.priority ~= two.priority then return one.priority > two.priority end
  if one.number ~= two.number then return one.number < two.number end
  if one.size ~= two.size then return one.size > two.size end
  return one.lane < two.lane
end)

local rows, claimed, bytes, reading = {}, 0, 0, FIRST_READ

-- Returns how many were claimed, and how many were read.
local function claim(class, count)
  local queue = ARGV[class.number]
  local stream = stream_of(queue, class.class)
  local answer = next_of(stream, count)
  if not answer then
    if redis.call('XLEN', stream) == 0 then
      redis.call('DEL', stream)
      redis.call('SREM', P .. ':c:' .. queue, class.class)
    end
    return 0, 0
  end
  local found, claims, row = answer[1][2], {}, {class.number - FIRST_QUEUE, class.class}
  for _, entry in ipairs(found) do
    local id, low = string.match(entry[1], '^(%d+)-(%d+)$')
    local body, attempt, wrong = read(entry[2])
    if attempt and (low ~= '0' or #id > 15) then
      attempt, wrong = nil, 'not a message: somebody else put it there'
    end
    if attempt then
      local held = id .. ':' .. token
      row[#row + 1] = held
      row[#row + 1] = attempt
      row[#row + 1] = body
      claims[#claims + 1] = now + lease_ms
      claims[#claims + 1] = class.class .. ':' .. held
      bytes = bytes + #body
    else
      bury(queue, reserve(1) + 1, body, 1, class.priority, class.size, wrong)
      redis.call('XDEL', stream, entry[1])
    end
  end
  if #claims > 0 then
    redis.call('ZADD', P .. ':x:' .. queue, unpack(claims))
    rows[#rows + 1] = row
  end
  return #claims / 2, #found
end

for _, class in ipairs(classes) do
  while class.size <= math.min(room, max_size) and claimed < limit and bytes < ANSWER_BYTES do
    local count = math.min(limit - claimed, math.floor(room / class.size), reading)
    local got, seen = claim(class, count)
    room, claimed = room - got * class.size, claimed + got
    if seen < count then break end
    reading = math.min(2 * reading, MOST_READ)
  end
end

-- A wake-up from the future would be news for ever.
local seq = redis.call('GET', P .. ':seq') or '0'
if #rows == 0 then
  for number = FIRST_QUEUE, #ARGV do
    local last = redis.call('XREVRANGE', P .. ':w:' .. ARGV[number], '+', '-', 'COUNT', 1)[1]
    if last and tonumber(string.match(last[1], '^%d+')) > tonumber(seq) then
      redis.call('DEL', P .. ':w:' .. ARGV[number])
    end
  end
end

local next_ms = -1
for number = FIRST_QUEUE, #ARGV do
  for _, kind in ipairs({':x:', ':d:'}) do
    local first = redis.call('ZRANGE', P .. kind .. ARGV[number], 0, 0, 'WITHSCORES')[2]
    if first then
      local left = math.max(0, tonumber(first) - now)
      if next_ms < 0 or left < next_ms then next_ms = left end
    end
  end
end
return {rows, seq, next_ms}
