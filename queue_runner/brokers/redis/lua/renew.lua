-- ARGV: lease_ms, then queue, class, ID:TOKEN of each claim. Returns the places, from 0, of those lost.
local lost = {}
for at = 2, #ARGV, 3 do
  local claims, member = P .. ':x:' .. ARGV[at], ARGV[at + 1] .. ':' .. ARGV[at + 2]
  local lapses = redis.call('ZSCORE', claims, member)
  if lapses and tonumber(lapses) > now then
    redis.call('ZADD', claims, now + tonumber(ARGV[1]), member)
  else
    lost[#lost + 1] = (at - 2) / 3
  end
end
return lost
