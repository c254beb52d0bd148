-- sweep: removes a shelf's pointers to documents that have expired, and the name of an empty shelf. Log and attempts
-- expire with the document; where an older release has ended the task, they are removed here.
--
-- KEYS  1  shelf    2  names of shelves    3…  documents
-- ARGV  1  the shelf's name    2  what the name of a document's log is put behind    3  that of its earlier attempts
--
-- Returns how many pointers were removed.

local gone = {}
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    gone[#gone + 1] = KEYS[i]
    redis.call('UNLINK', ARGV[2] .. KEYS[i], ARGV[3] .. KEYS[i])
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[1])
end
return #gone
