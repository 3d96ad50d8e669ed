-- Sets KEYS[1] to ARGV[1] for ARGV[2] seconds, unless what is there is newer in any topic.
-- Returns 1 where it is set, 0 where what is there stays. The header is that of value.rs, from
-- byte 1: format (1), checksum (8), identity (8), next offsets of watch, click and feedback events
-- (8 each).
-- Offsets become doubles, exact up to 2^53: three hundred years at a million records a second.
local new = ARGV[1]
local old = redis.pcall('GETRANGE', KEYS[1], 0, 44)
-- Another type, another format, or folded from another log: not comparable, and ours holds.
if type(old) == 'string' and #old == 45
    and string.sub(old, 1, 1) == string.sub(new, 1, 1)
    and string.sub(old, 10, 17) == string.sub(new, 10, 17) then
  local old_watch, old_click, old_feedback = struct.unpack('>I8I8I8', old, 18)
  local new_watch, new_click, new_feedback = struct.unpack('>I8I8I8', new, 18)
  if new_watch < old_watch or new_click < old_click or new_feedback < old_feedback then
    return 0
  end
end
redis.call('SET', KEYS[1], new, 'EX', ARGV[2])
return 1
