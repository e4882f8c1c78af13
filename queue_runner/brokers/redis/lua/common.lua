-- Put before each script. KEYS[1] is the namespace, {PREFIX}: the braces keep all its keys in one
-- slot of a cluster. Under it, for each QUEUE:
--   seq                              counter: the last id given out, to a message or a wake-up
--   c:QUEUE              set         its classes, PRIORITY:SIZE:LANE
--   s:QUEUE:CLASS        stream      messages: b body, a attempt; the group's cursor parts leased from ready
--   x:QUEUE              sorted set  claims, CLASS:ID by the time they lapse
--   d:QUEUE, D:QUEUE     sorted set, hash   delayed ids by the time they are due, and what they hold
--   dead:QUEUE           stream      dead letters
--   w:QUEUE              stream      one entry, whose id rises when something may have become ready
-- Lane a holds what was given back, which is older than anything in lane b.
-- Times are milliseconds by this server's clock.
local P = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- Ids never come again, so a receipt can only ever mean one claim, even where a stream was removed.
local function reserve(count)
  return redis.call('INCRBY', P .. ':seq', count) - count
end

local function stream_of(queue, class)
  return P .. ':s:' .. queue .. ':' .. class
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
  redis.call('XADD', stream, string.format('%.0f-0', id), 'b', body, 'a', attempt)
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
    redis.call('XADD', P .. ':w:' .. queue, 'MAXLEN', 1, string.format('%.0f-0', last_id), 'w', '')
  end
end

local function split(class)
  return string.match(class, '^(%d+):(%d+):(%a)$')
end

-- Takes a message out of its stream; nil when somebody removed it by hand.
local function take_out(queue, class, id)
  local stream = stream_of(queue, class)
  local found = redis.call('XRANGE', stream, id .. '-0', id .. '-0')[1]
  redis.call('XDEL', stream, id .. '-0')
  if not found then return nil end
  return found[2][2], tonumber(found[2][4])
end

local function publish(first, count, base)
  for place = 0, count - 1 do
    local at = first + place * 6
    put(ARGV[at], ARGV[at + 1], ARGV[at + 2], 'b', base + place + 1, ARGV[at + 5], ARGV[at + 4],
        tonumber(ARGV[at + 3]))
  end
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
    local class, old = string.match(member, '^(.*):(%d+)$')
    local priority, size = split(class)
    local body, attempt = take_out(queue, class, old)
    id = id + 1
    if body then add(queue, priority, size, 'a', id, body, attempt + 1) end
    redis.call('ZREM', claims, member)
  end
  for _, member in ipairs(due) do
    local packed = redis.call('HGET', P .. ':D:' .. queue, member)
    id = id + 1
    -- nil when somebody removed it by hand, as above
    if packed then
      local held = cmsgpack.unpack(packed)
      add(queue, held[1], held[2], held[3], id, held[5], held[4])
    end
    redis.call('HDEL', P .. ':D:' .. queue, member)
    redis.call('ZREM', delayed, member)
  end
  wake(id)
  woken = {}
end

-- Removes the claim; false when it lapsed, was settled, or never was.
local function end_claim(queue, class, id)
  local claims, member = P .. ':x:' .. queue, class .. ':' .. id
  local lapses = redis.call('ZSCORE', claims, member)
  if not lapses or tonumber(lapses) <= now then return false end
  redis.call('ZREM', claims, member)
  return true
end
