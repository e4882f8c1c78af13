-- ARGV: queue, the last id to take (empty: the newest there is), then ids (none: all, oldest first).
-- Returns how many were put back and that last id: called again until 0, it ends, even where messages
-- die as fast as they are put back.
local queue, last = ARGV[1], ARGV[2]
local letters = P .. ':dead:' .. queue
if last == '' then last = redis.call('GET', P .. ':seq') or '0' end
local found = {}
if #ARGV > 2 then
  for number = 3, #ARGV do
    found[#found + 1] = redis.call('XRANGE', letters, ARGV[number] .. '-0', ARGV[number] .. '-0')[1]
  end
else
  found = redis.call('XRANGE', letters, '-', last .. '-0', 'COUNT', BATCH)
end
if #found > 0 then
  local id = reserve(#found)
  for _, entry in ipairs(found) do
    local field = {}
    for place = 1, #entry[2], 2 do field[entry[2][place]] = entry[2][place + 1] end
    id = id + 1
    local priority, size = split((field.priority or '') .. ':' .. (field.size or '') .. ':b')
    add(queue, priority or 0, size or 1, 'b', id, field.body or '', 1)
    redis.call('XDEL', letters, entry[1])
  end
  wake(id)
end
return {#found, last}
