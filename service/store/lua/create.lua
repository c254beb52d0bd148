-- create: stores new documents and what points at them, all or none.
--
-- KEYS  1  names of shelves      2  due times      3…  per task: document, shelf, stream to wait in
-- ARGV  1  number of tasks       then per task: the document, the shelf's name, created (score), due (score or "")
--
-- Returns an empty list when all are stored. If any of the documents is there already, nothing
-- changes, and the answer lists every document's present text, or false.

local count = tonumber(ARGV[1])
local uids = {}
for i = 1, count do
  uids[i] = KEYS[3 * i]
end
if redis.call('EXISTS', unpack(uids)) > 0 then
  return redis.call('MGET', unpack(uids))
end

local texts, shelves, names = {}, {}, {}
for i = 1, count do
  local uid, shelf, stream = uids[i], KEYS[3 * i + 1], KEYS[3 * i + 2]
  local due = ARGV[4 * i + 1]
  texts[2 * i - 1], texts[2 * i] = uid, ARGV[4 * i - 2]
  if not shelves[shelf] then
    shelves[shelf] = {}
    names[#names + 1] = ARGV[4 * i - 1]
  end
  local joining = shelves[shelf]
  joining[#joining + 1] = ARGV[4 * i]
  joining[#joining + 1] = uid
  if due == '' then
    redis.call('XADD', stream, '*', 'uid', uid)
  else
    redis.call('ZADD', KEYS[2], due, uid)
  end
end
redis.call('MSET', unpack(texts))
redis.call('SADD', KEYS[1], unpack(names))
for shelf, joining in pairs(shelves) do
  redis.call('ZADD', shelf, unpack(joining))
end
return {}
