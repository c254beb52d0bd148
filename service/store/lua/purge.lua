-- purge: removes a document and what points at it, only while it still is what the caller read. Entries that point at
-- it are dropped by whoever finds them. Shelves lie in the slot of their names (docs/store.md, One slot).
--
-- KEYS  1  document    2  names of shelves    3  due times    4  its log    5  its earlier attempts
-- ARGV  1  text as read    2  what a shelf's name is appended to
--
-- Returns 1 if it is removed, 0 if it has changed.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[4], KEYS[5])
redis.call('ZREM', KEYS[3], KEYS[1])
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.call('ZREM', ARGV[2] .. name, KEYS[1])
end
return 1
