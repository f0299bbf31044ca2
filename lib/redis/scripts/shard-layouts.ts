import { NOW, script } from './script.js';

/*
 * How many shards a stream has, and had, in a hash beside the stream, `layout`:
 *
 * - `first`: the largest number of shards that a producer with keys was given, until a layout is set
 * - `layouts`: `<first shard>:<number of shards>` of each layout, the oldest first, separated by commas
 * - `pending`: `<first shard>:<number of shards>:<time>` of the layout that is being set, or ''
 *
 * Each layout has shards of its own, so that the layout of an entry is known by its shard. A layout becomes the last of `layouts`
 * when the shards of the one before are closed: from then on Redis itself refuses to append to them.
 */

const STATE = `${NOW}
local function get(field) return redis.call('HGET', KEYS[1], field) or '' end
local layouts, pending = get('layouts'), get('pending')
local function state() return { layouts, pending, whole(now), get('first') } end`;

/** KEYS: layout. ARGV: the number of shards of a producer that was given it, or 0. */
export const LOOK_AT_LAYOUTS = script(
  'look-at-layouts',
  `${STATE}
if layouts == '' and pending == '' and tonumber(ARGV[1]) > (tonumber(get('first')) or 0) then
  redis.call('HSET', KEYS[1], 'first', ARGV[1])
end
return state()`,
);

/** KEYS: layout. ARGV: how many shards were found, how many there shall be. A change that is under way stays as it is. */
export const BEGIN_LAYOUT = script(
  'begin-layout',
  `${STATE}
if pending ~= '' then return state() end
if layouts == '' then
  local first = math.max(tonumber(get('first')) or 0, tonumber(ARGV[1]))
  if first > 0 then layouts = '0:' .. whole(first) end
end
local next, last = 0, nil
for from, count in string.gmatch(layouts, '(%d+):(%d+)') do next, last = from + count, count end
if last == ARGV[2] then
  redis.call('HSET', KEYS[1], 'layouts', layouts)
  return state()
end
pending = whole(next) .. ':' .. ARGV[2] .. ':' .. whole(now)
redis.call('HSET', KEYS[1], 'layouts', layouts, 'pending', pending)
return state()`,
);

/** KEYS: layout. ARGV: the pending layout, whose predecessor is closed. */
export const END_LAYOUT = script(
  'end-layout',
  `${STATE}
if pending == '' or pending ~= ARGV[1] then return state() end
local added = string.match(pending, '^%d+:%d+')
layouts = layouts == '' and added or layouts .. ',' .. added
pending = ''
redis.call('HSET', KEYS[1], 'layouts', layouts, 'pending', pending)
return state()`,
);

/** The last id that there can be: Redis appends nothing behind it. */
export const LAST_POSSIBLE_ID = '18446744073709551615-18446744073709551615';

/** What Redis refuses to append with then; scripts that append nothing answer the same. */
export const IS_CLOSED = 'ERR The stream has exhausted the last possible ID';

const CREATED = `
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'nrs', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], 'nrs')
end`;

/** KEYS: shard, which exists from now on, so that readers find it. */
export const OPEN_SHARD = script('open-shard', `${CREATED}\nreturn 1`);

/** KEYS: shard, which is created where it does not exist: a producer may not have sent to it yet. */
export const CLOSE_SHARD = script(
  'close-shard',
  `${CREATED}
redis.call('XSETID', KEYS[1], '${LAST_POSSIBLE_ID}')
return 1`,
);
