-- drop: removes stale entries that a consumer holds, each only while its document is still what was read.
--
-- KEYS  1  stream    2…  documents
-- ARGV  1  group     2  consumer    then per document: entry, text as read ("" for none)
--
-- Where the stream is gone with all the data, nothing is pending.
-- Returns the places (from 1) of the entries that stay.

local kept = {}
for i = 1, #KEYS - 1 do
  local entry, text = ARGV[2 * i + 1], ARGV[2 * i + 2]
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], entry, entry, 1, ARGV[2])
  if #pending == 1 and (redis.call('GET', KEYS[i + 1]) or '') == text then
    redis.call('XACK', KEYS[1], ARGV[1], entry)
    redis.call('XDEL', KEYS[1], entry)
  else
    kept[#kept + 1] = i
  end
end
return kept
