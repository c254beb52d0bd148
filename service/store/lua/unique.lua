-- A part of scripts that look at unique keys. `keys` is a hash of the partition: for each unique key that a task has, the
-- task's UID, or "<UID> <UID> <stream>": the task that has it, and the one that waits behind it, with the stream to wait
-- in afterwards. It is a pointer: a task has the key only while its document is unfinished. Those have no time to live.

local function is_unfinished(uid)
  return redis.call('PTTL', uid) == -1
end

-- Who has the key by the record, who waits behind (or ""), and the stream; nil where there is no record.
local function on_record(keys, key)
  local record = redis.call('HGET', keys, key)
  if record then
    return string.match(record, '^(%x+) ?(%x*) ?(.*)$')
  end
end

-- Gives the key to who waits behind, which may run from now on. Returns its UID; nil where nobody waits.
local function pass_on(keys, key, behind, stream)
  if behind ~= '' and is_unfinished(behind) then
    redis.call('HSET', keys, key, behind)
    redis.call('XADD', stream, '*', 'uid', behind)
    return behind
  end
  redis.call('HDEL', keys, key)
end

-- Who has the key, and who waits behind (or ""); nil where it is free. What the record says of finished tasks goes.
local function holder_of(keys, key)
  local holder, behind, stream = on_record(keys, key)
  if not holder then
    return nil
  end
  if not is_unfinished(holder) then
    return pass_on(keys, key, behind, stream), ''
  end
  if behind ~= '' and not is_unfinished(behind) then
    redis.call('HSET', keys, key, holder)
    behind = ''
  end
  return holder, behind
end

-- A task that ends, or need not have its key any more.
local function give_up(keys, key, uid)
  local holder, behind, stream = on_record(keys, key)
  if holder == uid then
    pass_on(keys, key, behind, stream)
  elseif behind == uid then
    redis.call('HSET', keys, key, holder)
  end
end
