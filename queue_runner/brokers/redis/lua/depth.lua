-- ARGV: queue. Returns ready, delayed, leased, dead.
local queue = ARGV[1]
local ready = 0
for _, class in ipairs(redis.call('SMEMBERS', P .. ':c:' .. queue)) do
  if split(class) then ready = ready + redis.call('XLEN', stream_of(queue, class)) end
end
local after = '(' .. string.format('%.0f', now)
local leased = redis.call('ZCOUNT', P .. ':x:' .. queue, after, '+inf')
local delayed = redis.call('ZCOUNT', P .. ':d:' .. queue, after, '+inf')
local due = redis.call('ZCOUNT', P .. ':d:' .. queue, '-inf', now)
return {ready - leased + due, delayed, leased, redis.call('XLEN', P .. ':dead:' .. queue)}
