-- Put before each script. KEYS[1] is the namespace, {PREFIX}: the braces keep all its keys in one
-- slot of a cluster. Under it, for each QUEUE:
--   seq                              counter: the last id given out, to a message or a wake-up
--   c:QUEUE              set         its classes, PRIORITY:SIZE:LANE
--   s:QUEUE:CLASS        stream      messages: b body, a attempt; the group's cursor parts leased from ready
--   x:QUEUE              sorted set  claims, CLASS:ID:TOKEN by the time they lapse
--   d:QUEUE, D:QUEUE     sorted set, hash   delayed ids by the time they are due, and what they hold
--   dead:QUEUE           stream      dead letters
--   w:QUEUE              stream      one entry, whose id rises when something may have become ready
-- Lane a holds what was given back, which is older than anything in lane b.
-- Times are milliseconds by this server's clock.
-- Others may write to the server, too: what they put where a message or a claim belongs is moved to the
-- dead letters or removed, and stops nobody.
local P = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- Ids do not come again, even where a stream was removed; only a failover that loses some takes the
-- counter back. So a claim has a token of its own, and a receipt can only ever mean that claim.
local function reserve(count)
  return redis.call('INCRBY', P .. ':seq', count) - count
end

local function stream_of(queue, class)
  return P .. ':s:' .. queue .. ':' .. class
end

local MOST_BODY, MOST_ATTEMPT, MOST_SIZE = 16 * 1024 * 1024, 2 ^ 31 - 1, 2 ^ 53

-- Appends to a stream. An id that is not above all in it is one that others have spoilt: ours go on above
-- theirs, or in a new stream where there is no number left.
local function append(stream, id, ...)
  local answer = redis.pcall('XADD', stream, string.format('%.0f-0', id), ...)
  if type(answer) ~= 'table' or not answer.err then return end
  local spoilt = string.find(answer.err, 'equal or smaller', 1, true) or string.find(answer.err, 'exhausted', 1, true)
  if not spoilt then error(answer.err) end
  local top = tonumber(string.match(redis.call('XINFO', 'STREAM', stream)[8], '^%d+')) or 2 ^ 64
  if top < 2 ^ 53 - 2 ^ 20 then
    redis.call('SET', P .. ':seq', string.format('%.0f', top + 1))
  else
    redis.call('RENAME', stream, P .. ':aside:' .. string.format('%.0f', reserve(1)) .. ':' .. stream)
    if string.sub(stream, 1, #P + 3) == P .. ':s:' then
      redis.call('XGROUP', 'CREATE', stream, 'g', '0', 'MKSTREAM')
    end
  end
  redis.call('XADD', stream, string.format('%.0f-0', reserve(1) + 1), ...)
end

-- A whole number from 1; nil for anything else.
local function count_of(text, most)
  local number = tonumber(text)
  if number and number >= 1 and number <= most and number % 1 == 0 then return number end
end

local function split(class)
  local priority, size, lane = string.match(class, '^(%d+):(%d+):(%a)$')
  if priority and tonumber(priority) <= 9 and count_of(size, MOST_SIZE) then return priority, size, lane end
end

local function bury(queue, id, body, attempt, priority, size, reason)
  append(P .. ':dead:' .. queue, id, 'body', body, 'attempt', attempt, 'priority', priority, 'size', size,
         'reason', reason, 'at_ms', now)
end

-- Body and attempt of an entry's fields; or what else there is, nil, and why it is no message.
local function read(fields)
  local field = {}
  for place = 1, #fields, 2 do field[fields[place]] = fields[place + 1] end
  local attempt = count_of(field.a, MOST_ATTEMPT)
  if not field.b or not attempt then
    return table.concat(fields, ' '), nil, 'not a message: somebody else put it there'
  end
  if #field.b > MOST_BODY then
    return field.b, nil, 'a body of ' .. #field.b .. ' bytes, of which the limit is ' .. MOST_BODY
  end
  return field.b, attempt
end

local known, woken = {}, {}

local function add(queue, priority, size, lane, id, body, attempt)
  local class = priority .. ':' .. size .. ':' .. lane
  local stream = stream_of(queue, class)
  if not known[stream] then
    if redis.call('SADD', P .. ':c:' .. queue, class) == 1 then
      redis.call('XGROUP', 'CREATE', stream, 'g', '0', 'MKSTREAM')
    end
    known[stream] = true
  end
  append(stream, id, 'b', body, 'a', attempt)
  woken[queue] = true
end

local function add_later(queue, priority, size, lane, id, body, attempt, delay_ms)
  -- zeros in front: what is due at the same time is sorted by id
  local member = string.format('%016.0f', id)
  redis.call('HSET', P .. ':D:' .. queue, member, cmsgpack.pack({priority, size, lane, attempt, body}))
  redis.call('ZADD', P .. ':d:' .. queue, now + delay_ms, member)
  woken[queue] = true
end

local function put(queue, priority, size, lane, id, body, attempt, delay_ms)
  if delay_ms > 0 then
    add_later(queue, priority, size, lane, id, body, attempt, delay_ms)
  else
    add(queue, priority, size, lane, id, body, attempt)
  end
end

local function wake(last_id)
  for queue in pairs(woken) do
    local stream, id = P .. ':w:' .. queue, string.format('%.0f-0', last_id)
    local answer = redis.pcall('XADD', stream, 'MAXLEN', 1, id, 'w', '')
    if type(answer) == 'table' and answer.err then
      redis.call('DEL', stream)
      redis.call('XADD', stream, id, 'w', '')
    end
  end
end

-- The next entries that nobody has read.
local function next_of(stream, count)
  local command = {'XREADGROUP', 'GROUP', 'g', 'all', 'COUNT', count, 'NOACK', 'STREAMS', stream, '>'}
  local answer = redis.pcall(unpack(command))
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'NOGROUP', 1, true) then error(answer.err) end
  redis.call('XGROUP', 'CREATE', stream, 'g', '0', 'MKSTREAM')
  return redis.call(unpack(command))
end

-- Takes a message out of its stream; nil when somebody removed it by hand.
local function take_out(queue, class, id)
  local stream = stream_of(queue, class)
  local found = redis.call('XRANGE', stream, id .. '-0', id .. '-0')[1]
  redis.call('XDEL', stream, id .. '-0')
  if not found then return nil end
  local body, attempt = read(found[2])
  return body, attempt or 1
end

-- Publishes `count` messages: from ARGV[at] on, queue, priority, size, delay_ms, attempt, how many of them come
-- one after another, and the bodies of these; then the next ones. Returns the place after the last.
local function publish(at, count, base)
  local id, last = base, base + count
  while id < last do
    local queue, priority, size = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local delay_ms, attempt, many = tonumber(ARGV[at + 3]), ARGV[at + 4], tonumber(ARGV[at + 5])
    for place = at + 6, at + 5 + many do
      id = id + 1
      put(queue, priority, size, 'b', id, ARGV[place], attempt, delay_ms)
    end
    at = at + 6 + many
  end
  return at
end

local BATCH = 100

-- Lapsed claims and due messages become ready. At most BATCH of each, so no call blocks the server long.
local function tidy(queue)
  local claims, delayed = P .. ':x:' .. queue, P .. ':d:' .. queue
  local lapsed = redis.call('ZRANGEBYSCORE', claims, '-inf', now, 'LIMIT', 0, BATCH)
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, BATCH)
  if #lapsed + #due == 0 then return end
  local id = reserve(#lapsed + #due)
  for _, member in ipairs(lapsed) do
    local class, old = string.match(member, '^(%d+:%d+:%a):(%d+)')
    local priority, size = split(class or '')
    local body, attempt
    if priority and #old < 16 then body, attempt = take_out(queue, class, old) end
    id = id + 1
    if body then add(queue, priority, size, 'a', id, body, attempt + 1) end
    redis.call('ZREM', claims, member)
  end
  for _, member in ipairs(due) do
    local packed = redis.call('HGET', P .. ':D:' .. queue, member)
    id = id + 1
    -- nil when somebody removed it by hand, as above
    if packed then
      local good, held = pcall(cmsgpack.unpack, packed)
      good = good and type(held) == 'table' and type(held[5]) == 'string' and count_of(held[4], MOST_ATTEMPT)
      if good and split(tostring(held[1]) .. ':' .. tostring(held[2]) .. ':' .. tostring(held[3])) then
        add(queue, held[1], held[2], held[3], id, held[5], held[4])
      else
        bury(queue, id, packed, 1, 0, 1, 'not a delayed message: somebody else put it there')
      end
    end
    redis.call('HDEL', P .. ':D:' .. queue, member)
    redis.call('ZREM', delayed, member)
  end
  wake(id)
  woken = {}
end

-- Removes the claim and returns its message's id; nil when it lapsed, was settled, or never was.
local function end_claim(queue, class, held)
  local claims, member = P .. ':x:' .. queue, class .. ':' .. held
  local lapses = redis.call('ZSCORE', claims, member)
  if not lapses or tonumber(lapses) <= now then return nil end
  redis.call('ZREM', claims, member)
  return string.match(held, '^%d+')
end
