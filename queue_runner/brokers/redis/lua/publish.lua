-- ARGV: count, then queue, priority, size, delay_ms, attempt, body of each.
local count = tonumber(ARGV[1])
local base = reserve(count)
publish(2, count, base)
wake(base + count)
return count
