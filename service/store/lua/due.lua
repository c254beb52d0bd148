-- due: what Redis's own clock says is due, with the documents. A pointer without a document is removed.
--
-- KEYS  1  due times
-- ARGV  1  how many at most    2  how many bytes of documents: one more than fits is the last
--
-- Returns a flat list: UID, document; and so on.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found, room = {}, tonumber(ARGV[2])
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local text = redis.call('GET', uid)
  if text then
    found[#found + 1] = uid
    found[#found + 1] = text
    room = room - #text
    if room <= 0 then
      break
    end
  else
    redis.call('ZREM', KEYS[1], uid)
  end
end
return found
