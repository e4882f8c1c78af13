-- ARGV: queue. Removes some of what is ready or delayed and returns how many; 0: nothing was left.
local queue = ARGV[1]
local count = 0
tidy(queue)
for _, class in ipairs(redis.call('SMEMBERS', P .. ':c:' .. queue)) do
  local stream = stream_of(queue, class)
  local answer = split(class) and next_of(stream, BATCH)
  if answer then
    for _, entry in ipairs(answer[1][2]) do redis.call('XDEL', stream, entry[1]) end
    count = count + #answer[1][2]
  end
end
for _, member in ipairs(redis.call('ZRANGE', P .. ':d:' .. queue, 0, BATCH - 1)) do
  redis.call('HDEL', P .. ':D:' .. queue, member)
  redis.call('ZREM', P .. ':d:' .. queue, member)
  count = count + 1
end
return count
