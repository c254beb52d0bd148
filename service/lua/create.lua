-- create: stores new documents and what points at them, all or none.
--
-- KEYS  1  names of shelves      2  due times      3…  per task: document, shelf, stream to wait in
-- ARGV  1  number of tasks       then per task: the document, the shelf's name, created (score), due (score or "")
--
-- Returns an empty list when all are stored. If any of the documents is there already, nothing
-- changes, and the answer lists every document's present text, or false.

local count = tonumber(ARGV[1])
local present, documents = false, {}
for i = 1, count do
  documents[i] = redis.call('GET', KEYS[3 * i])
  present = present or documents[i]
end
if present then
  return documents
end

for i = 1, count do
  local uid, shelf, stream = KEYS[3 * i], KEYS[3 * i + 1], KEYS[3 * i + 2]
  local text, name, created, due = ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i], ARGV[4 * i + 1]
  redis.call('SET', uid, text)
  redis.call('ZADD', shelf, created, uid)
  redis.call('SADD', KEYS[1], name)
  if due == '' then
    redis.call('XADD', stream, '*', 'uid', uid)
  else
    redis.call('ZADD', KEYS[2], due, uid)
  end
end
return {}
