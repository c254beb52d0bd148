-- A part of scripts that look at unique keys. `name` is a hash of the partition: for each unique key that a task has, the
-- task's UID, or "<UID> <UID> <stream>": the task that has it, and the one that waits behind it, with the stream to wait
-- in afterwards. It is a pointer: a task has the key only while its document is unfinished. Those have no time to live.
-- What is not asked for is not made: most scripts run without.

local function unique_keys(name)
  local keys = {}

  local function is_unfinished(uid)
    return redis.call('PTTL', uid) == -1
  end

  -- Gives the key to who waits behind, which may run from now on. Returns its UID; nil where nobody waits. First the entry:
  -- while a slot is moved, its stream may have gone before the record.
  local function pass_on(key, behind, stream)
    if behind ~= '' and is_unfinished(behind) then
      redis.call('XADD', stream, '*', 'uid', behind)
      redis.call('HSET', name, key, behind)
      redis.pcall('SPUBLISH', string.gsub(name, 'unique$', 'changes'), 'queued ' .. behind)
      return behind
    end
    redis.call('HDEL', name, key)
  end

  -- Who has the key by the record, who waits behind (or ""), and the stream; nil where there is no record.
  function keys.on_record(key)
    local record = redis.call('HGET', name, key)
    if record then
      return string.match(record, '^(%x+) ?(%x*) ?(.*)$')
    end
  end

  -- Who has the key, and who waits behind (or ""); nil where it is free. What the record says of finished tasks goes.
  function keys.holder_of(key)
    local holder, behind, stream = keys.on_record(key)
    if not holder then
      return nil
    end
    if not is_unfinished(holder) then
      return pass_on(key, behind, stream), ''
    end
    if behind ~= '' and not is_unfinished(behind) then
      redis.call('HSET', name, key, holder)
      behind = ''
    end
    return holder, behind
  end

  -- Whether the task waits behind another.
  function keys.waits(key, uid)
    local holder, behind = keys.on_record(key)
    return behind == uid and is_unfinished(holder)
  end

  -- The task has it from now on; the other one waits behind it, if there is one.
  function keys.take(key, uid, behind, stream)
    redis.call('HSET', name, key, behind and uid .. ' ' .. behind .. ' ' .. stream or uid)
  end

  -- A task that ends, or need not have its key any more.
  function keys.leave(key, uid)
    local holder, behind, stream = keys.on_record(key)
    if holder == uid then
      pass_on(key, behind, stream)
    elseif behind == uid then
      redis.call('HSET', name, key, holder)
    end
  end

  return keys
end
