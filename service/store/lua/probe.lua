-- probe: tries each command that a create needs, and those by which a runner fetches, claims and settles; it leaves
-- nothing. The user may lack a right, Redis may be full.
--
-- KEYS  1  a key that expires    2  a set    3  like a shelf    4  like a queue    5  like a document
--       Of the last three none is there, and none is made.
--
-- Returns nothing, or the error of the first command that was refused.

local tries = {
  { 'EXISTS', KEYS[5] },
  { 'MGET', KEYS[5] },
  { 'MSET', KEYS[1], '' },
  { 'SET', KEYS[1], '', 'PX', 60000 },
  { 'SET', KEYS[5], '', 'XX', 'PX', 60000 },
  { 'XADD', KEYS[4], 'NOMKSTREAM', '*', 'uid', '' },
  { 'ZADD', KEYS[3], 'XX', 0, '' },
  { 'SADD', KEYS[2], '' },
  { 'SREM', KEYS[2], '' },
  { 'ZREM', KEYS[3], '' },
  { 'TIME' },
  { 'XACK', KEYS[4], 'probe', '0-1' },
  { 'XDEL', KEYS[4], '0-1' },
}
-- These are refused in any case, since there is no such key and no such group; only for want of the right it counts.
local groups = {
  { 'XGROUP', 'CREATE', KEYS[4], 'probe', '0' },
  { 'XREADGROUP', 'GROUP', 'probe', 'probe', 'COUNT', 1, 'STREAMS', KEYS[4], '>' },
  { 'XPENDING', KEYS[4], 'probe' },
  { 'XCLAIM', KEYS[4], 'probe', 'probe', 0, '0-1', 'JUSTID' },
}

-- Redis 7.0 does not say which command it was.
local function missing(answer, try)
  local is_right = string.find(answer.err, 'ACL failure') or string.find(answer.err, 'user executing')
  return is_right and { err = "NOPERM no permissions to run the '" .. try[1] .. "' command" }
end

for _, try in ipairs(tries) do
  local answer = redis.pcall(unpack(try))
  if type(answer) == 'table' and answer.err then
    return missing(answer, try) or answer
  end
end
for _, try in ipairs(groups) do
  local answer = redis.pcall(unpack(try))
  local refused = type(answer) == 'table' and answer.err and missing(answer, try)
  if refused then
    return refused
  end
end
