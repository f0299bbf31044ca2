import { NOW, script } from './script.js';

/*
 * Who owns a shard in a group, in three keys beside the shard:
 *
 * - `lease`: `owner:generation`, with the time that is left to the owner as its expiry
 * - `generation`: the last one, which does not expire. It is at least the time of the server in milliseconds, so that it rises
 *   even when a failover has lost the last one
 * - `wanted`: the consumer that the owner is asked to hand the shard over to
 *
 * and who the members of the group are, in two sorted sets beside the stream:
 *
 * - `members`: consumers by the time at which they count as gone
 * - `shares`: consumers by the number of shards of the stream that they own. Its fraction is the number of shards of all streams,
 *   in millionths
 */

/**
 * KEYS: lease, generation, wanted. ARGV: owner, time to live. Returns the generation, or nothing where another consumer owns the
 * shard or was promised it.
 */
export const ACQUIRE_SHARD = script(
  'acquire-shard',
  `${NOW}
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^(.*):%d+$') ~= ARGV[1] then return false end
local wanted = redis.call('GET', KEYS[3])
if wanted and wanted ~= ARGV[1] then return false end
local generation = whole(math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, now))
redis.call('SET', KEYS[2], generation)
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. generation, 'PX', ARGV[2])
if wanted then redis.call('PEXPIRE', KEYS[3], 0) end
return generation`,
);

/**
 * KEYS: lease, generation, wanted. ARGV: lease, generation, time to live. Returns who wants the shard, or ''; nothing when the lease
 * is lost. One that has expired, or that a failover has lost, is renewed if the shard has had no other owner since.
 */
export const RENEW_SHARD = script(
  'renew-shard',
  `local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return false end
if not held then
  local last = redis.call('GET', KEYS[2])
  if last and last ~= ARGV[2] then return false end
  redis.call('SET', KEYS[2], ARGV[2])
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return redis.call('GET', KEYS[3]) or ''`,
);

/** For a thread, which needs to know nothing else. KEYS: lease. ARGV: lease, time to live. Returns 1 when the lease was renewed. */
export const KEEP_SHARD = script(
  'keep-shard',
  `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
);

/** KEYS: lease, or wanted. ARGV: what this consumer has written there. */
export const RELEASE_SHARD = script(
  'release-shard',
  `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], 0) end
return 1`,
);

/** KEYS: stream, lease. ARGV: lease, group, ids. Returns how many of the ids were pending; -1 when the lease is lost. */
export const ACK_OWNED = script(
  'ack-owned',
  `if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
return redis.call('XACK', KEYS[1], unpack(ARGV, 2))`,
);

/**
 * KEYS: stream, lease. ARGV: lease, group, consumer, first id, count, least idle time. Gives the consumer what is pending for anyone, in
 * the order of the stream, with the delivery counts that it has, and removes the names for which nothing is pending any more. Returns
 * the last id that was looked at, or '' at the end, and ids and counts in turn; -1 when the lease is lost.
 */
export const TAKE_OVER_SHARD = script(
  'take-over-shard',
  `if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
local count, idle = tonumber(ARGV[5]), tonumber(ARGV[6])
local most = idle > 0 and 10 * count or count
local rows = redis.pcall('XPENDING', KEYS[1], ARGV[2], ARGV[4], '+', most)
if rows.err then return rows end
local taken, names = { #rows == most and rows[most][1] or '' }, {}
for _, row in ipairs(rows) do
  if row[3] >= idle then
    if row[2] ~= ARGV[3] then
      redis.call('XCLAIM', KEYS[1], ARGV[2], ARGV[3], 0, row[1], 'JUSTID')
      names[row[2]] = true
    end
    taken[#taken + 1] = row[1]
    taken[#taken + 1] = row[4]
    if #taken > 2 * count then
      taken[1] = row[1]
      break
    end
  end
end
for name in pairs(names) do
  local left = redis.pcall('XPENDING', KEYS[1], ARGV[2], '-', '+', 1, name)
  if #left == 0 and not left.err then redis.pcall('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[2], name) end
end
return taken`,
);

/**
 * KEYS: streams and their leases in turn. ARGV: group, consumer, count, then for each stream its lease, and the last id that its
 * owner knows of. Returns what XREADGROUP would, without the streams whose lease is lost. A page is empty when the group is at another
 * id: it was moved, or a read whose reply was lost has taken entries, which come before the next ones; and where reading failed
 * while other shards gave entries, which are pending already. Otherwise the first error is returned.
 */
export const READ_OWNED = script(
  'read-owned',
  `local function position(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  for _, group in ipairs(groups) do
    local fields = {}
    for at = 1, #group, 2 do fields[group[at]] = group[at + 1] end
    if fields.name == ARGV[1] then return fields['last-delivered-id'] end
  end
end
local pages, failure, hasRead = {}, nil, false
for i = 1, #KEYS, 2 do
  local last = redis.call('GET', KEYS[i + 1]) == ARGV[i + 3] and (position(KEYS[i]) or ARGV[i + 4])
  if last and last ~= ARGV[i + 4] then
    pages[#pages + 1] = { KEYS[i], {} }
  elseif last then
    local read = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[i], '>')
    if read and read.err then
      failure = failure or read
      pages[#pages + 1] = { KEYS[i], {} }
    elseif read then
      pages[#pages + 1] = read[1]
      hasRead = true
    end
  end
end
if failure and not hasRead then return failure end
return pages`,
);

/**
 * KEYS: members, shares. ARGV: consumer, time to live, number of shards of the stream, shards of the stream that the consumer owns,
 * shards of all streams that it owns. Returns the number of members, how many of them own more than the smallest share, and the
 * largest entry of `shares`.
 */
export const JOIN_OWNERS = script(
  'join-owners',
  `${NOW}
redis.call('ZADD', KEYS[1], whole(now + ARGV[2]), ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[4] + math.min(ARGV[5], 999999) / 1000000, ARGV[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(now))) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('ZREM', KEYS[2], gone)
end
redis.call('PEXPIRE', KEYS[1], 10 * ARGV[2])
redis.call('PEXPIRE', KEYS[2], 10 * ARGV[2])
local members = redis.call('ZCARD', KEYS[1])
local above = redis.call('ZCOUNT', KEYS[2], math.floor(ARGV[3] / members) + 1, '+inf')
local most = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return { members, above, most[2] }`,
);

/** KEYS: members, shares. ARGV: consumer. */
export const LEAVE_OWNERS = script(
  'leave-owners',
  `redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1`,
);
