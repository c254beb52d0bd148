-- aged: the shelves whose oldest task is old enough to have expired, and those that are empty.
-- Shelves lie in the slot of their names (docs/store.md, One slot).
--
-- KEYS  1…  names of shelves, of one partition each
-- ARGV  1  created before (score)    2…  per partition: what a shelf's name is appended to
--
-- Returns a flat list: place of the partition, the shelf's name; and so on.

local found = {}
for i, names in ipairs(KEYS) do
  for _, name in ipairs(redis.call('SMEMBERS', names)) do
    local oldest = redis.call('ZRANGE', ARGV[i + 1] .. name, 0, 0, 'WITHSCORES')
    if #oldest == 0 or tonumber(oldest[2]) < tonumber(ARGV[1]) then
      found[#found + 1] = i
      found[#found + 1] = name
    end
  end
end
return found
