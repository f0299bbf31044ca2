/**
 * The record of a deduplication id is `<reply> <token> <within> <lifetime>`. It outlives `within` where the same send may be
 * repeated for longer: its token finds it then, and another send does not.
 *
 * `firstOf(key, token)` returns the reply that the first send with the id got, nil if this one is the first. `noted(key,
 * reply, token, within, lifetime)` writes the record; it is written once without a reply before anything else, so that a
 * refusal stops the send.
 */
export const DEDUPLICATION = `
local function firstOf(key, token)
  local first, other, within, lifetime =
    string.match(redis.call('GET', key) or '', '^(%S+) (%S+) (%d+) (%d+)$')
  if not first then return nil end
  if other == token or tonumber(lifetime) - redis.call('PTTL', key) < tonumber(within) then return first end
  return nil
end
local function noted(key, reply, token, within, lifetime)
  redis.call('SET', key, reply and table.concat({ reply, token, within, lifetime }, ' ') or '', 'PX', lifetime)
end`;
