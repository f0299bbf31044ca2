import { Option } from 'commander';
import type { Command } from 'commander';
import type { ShardDetails, ShardLayout, ShardOwnerDetails, StreamManager } from 'nestjs-redis-streams/engine';
import { FailedError, UsageError } from '../failure.js';
import { countOf } from '../numbers.js';
import type { Output } from '../output.js';
import { printable } from '../printable.js';
import { action, examples } from '../session.js';
import type { Session } from '../session.js';

interface ShardsFlags {
  group?: string;
  set?: string;
  create?: boolean;
  dryRun?: boolean;
}

/** One key of a stream, which need not exist. */
interface ShardPlace {
  readonly key: string;
  readonly shardId: number;
  readonly details: ShardDetails | undefined;
  /** Number of the layout to which it belongs, the first one is 1. */
  readonly layout: number | undefined;
}

interface KnownShards {
  readonly places: readonly ShardPlace[];
  /** The oldest first; the last one is that of new messages, or the pending one. */
  readonly layouts: readonly ShardLayout[];
  readonly pending: ShardLayout | undefined;
  /** The shards that would be closed: those of the last layout, or all that there are. */
  readonly last: ShardLayout | undefined;
}

export function addShards(program: Command): void {
  program
    .command('shards')
    .description('list the shards of a stream and their owners, or set how many there are')
    .argument('<key>', 'the stream')
    .option('--group <group>', 'also show what this group has left to do in each shard, and who owns it')
    .addOption(
      new Option('--set <number>', 'close the shards of the stream, and give it this many new ones').conflicts('group'),
    )
    .option('--create', 'with --set: also for a stream that does not exist')
    .option('--dry-run', 'with --set: print what would be done, and change nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs shards orders', 'lists the shards of orders: which are closed, and which get new messages'],
        ['nrs shards orders --group billing', 'shows which consumer of the group billing owns each shard'],
        [
          'nrs shards orders --set 12 --dry-run',
          'prints which shards would be closed, and the numbers of the new ones',
        ],
        ['nrs shards orders --set 12 --yes', 'gives orders 12 new shards, and does not ask'],
      ),
    )
    .action(
      action<[key: string], ShardsFlags>(async (session, [key], flags) => {
        if (flags.set !== undefined) return setShards(session, key, flags.set, flags);
        if (flags.create || flags.dryRun) throw new UsageError('--create and --dry-run are for --set only');
        await listShards(session, key, flags.group);
      }),
    );
}

async function listShards(session: Session, key: string, group: string | undefined): Promise<void> {
  const manager = await session.manager();
  const known = await shardsOf(manager, key);
  if (isNothing(known)) throw new FailedError(`There is no stream '${key}'`);
  const owners = group === undefined ? undefined : await ownersOf(manager, key, group, known);
  const { output } = session;
  const rows = known.places.map((place) => rowOf(key, place, known, group, owners));
  if (output.isJson) await output.json(rows);
  else await printTable(output, rows, owners !== undefined);
  if (known.pending) {
    const change = `A change to the ${rangeText(known.pending)} is under way, or its process has died`;
    await output.warn(`${change}: 'nrs shards ${key} --set ${known.pending.shards}' ends it`);
  }
  const reopened = rows.filter(
    ({ state, layout, isCurrent }) => state === 'open' && layout !== undefined && !isCurrent,
  );
  if (reopened.length > 0 && !known.pending) {
    const names = reopened.map(({ shardId }) => shardId).join(', ');
    await output.warn(`Shards of old layouts are open: ${names}; --set with the current number closes them`);
  }
}

const HEAD = ['SHARD', 'KEY', 'ENTRIES', 'LAST ID', 'STATE', 'LAYOUT'];
const GROUP_HEAD = ['LAG', 'PENDING', 'OWNER', 'GENERATION'];

async function printTable(
  output: Output,
  rows: ReadonlyArray<ReturnType<typeof rowOf>>,
  hasGroup: boolean,
): Promise<void> {
  const cells = rows.map((row) => {
    const { shardId, key, length, lastId, state, lag, pending, owner, generation } = row;
    const own = [shardId, key, length, lastId, state, layoutText(row)];
    return hasGroup ? [...own, lag, pending, owner, generation] : own;
  });
  await output.table(hasGroup ? [...HEAD, ...GROUP_HEAD] : HEAD, cells);
}

/** A shard in the words of the tool. */
function rowOf(
  streamKey: string,
  { key, shardId, details, layout }: ShardPlace,
  { layouts, pending }: KnownShards,
  name: string | undefined,
  owners: ReadonlyMap<string, ShardOwnerDetails> | undefined,
) {
  const current = pending ? layouts.length - 1 : layouts.length;
  const group = details?.groups.find((each) => each.name === name);
  const owner = owners?.get(key);
  return {
    streamKey,
    shardId,
    key,
    length: details?.length,
    lastId: details?.lastId,
    state: details ? (details.isClosed ? 'closed' : 'open') : 'missing',
    layout,
    isCurrent: layout !== undefined && layout === current,
    ...(owners && {
      group: name,
      lag: group?.lag,
      pending: group?.pending,
      owner: owner?.owner,
      generation: owner?.generation === undefined ? undefined : String(owner.generation),
      expiresIn: owner?.expiresIn,
    }),
  };
}

function layoutText({ layout, isCurrent }: { layout: number | undefined; isCurrent: boolean }): string | undefined {
  return layout === undefined ? undefined : `${layout}${isCurrent ? ' current' : ''}`;
}

async function setShards(session: Session, key: string, set: string, { create, dryRun }: ShardsFlags): Promise<void> {
  const shards = countOf('--set', set);
  const manager = await session.manager();
  const known = await shardsOf(manager, key);
  if (isNothing(known) && !create) throw new FailedError(`There is no stream '${key}'; --create creates its shards`);
  const planned = await manager.setShards(key, shards, { dryRun: true });
  const isSame = planned.first === known.last?.first;
  const closed = isSame ? undefined : known.last;
  const has = `has the ${rangeText(planned)} already`;
  if (!dryRun) {
    const closes = closed ? `closes the ${rangeText(closed)} of '${key}', and ` : '';
    await session.confirm(
      isSame
        ? `'${key}' ${has}. This closes those of old layouts again.`
        : `This ${closes}creates the ${rangeText(planned)}${closed ? '' : ` of '${key}'`} for all new messages.`,
      ...(closed ? ['Writers that do not follow the change get errors from Redis from then on.'] : []),
    );
  }
  const { first } = dryRun ? planned : await manager.setShards(key, shards);
  const { output } = session;
  if (output.isJson) {
    await output.json([{ streamKey: key, first, shards, closed, dryRun: dryRun === true }]);
  } else if (isSame) {
    await output.line(`${printable(key)} ${has}; those of old layouts ${dryRun ? 'would be' : 'are'} closed`);
  } else {
    const created = `${dryRun ? 'Would create' : 'Created'} the ${rangeText({ first, shards })} of ${printable(key)}`;
    const text = closed && `, and ${dryRun ? 'close' : 'closed'} the ${rangeText(closed)}`;
    await output.line(`${created}${text ?? ''}`);
  }
  if (known.places.some((place) => place.key === key)) {
    await output.warn(`'${key}' itself stays open: producers without a sharder write to it`);
  }
}

function rangeText({ first, shards }: ShardLayout): string {
  if (shards === 1) return `shard ${first}`;
  return `shards ${first} ${shards === 2 ? 'and' : 'to'} ${first + shards - 1}`;
}

function isNothing({ places, last }: KnownShards): boolean {
  return places.length === 0 && !last;
}

/** What exists of a stream, and what its layouts name: `info()` stops at a gap of numbers. */
async function shardsOf(manager: StreamManager, key: string): Promise<KnownShards> {
  const [{ shards: found }, { layouts: set, pending, givenShards }] = await Promise.all([
    manager.info(key),
    manager.layouts(key),
  ]);
  const layouts = pending ? [...set, pending] : set;
  const numbers = found.filter((each) => each.key !== key).map(({ shardId }) => shardId);
  const count = Math.max(givenShards, ...numbers.map((shardId) => shardId + 1));
  const last = layouts.at(-1) ?? (count > 0 ? { first: 0, shards: count } : undefined);
  const named = (layouts.length > 0 || !last ? layouts : [last]).flatMap(({ first, shards }) =>
    Array.from({ length: shards }, (_, index) => first + index),
  );
  const existing = new Map(found.map((details) => [details.key, details]));
  const own = existing.get(key);
  const all = [...new Set([...numbers, ...named])].sort((one, other) => one - other);
  const places = await Promise.all(
    all.map(async (shardId) => {
      const place = `${key}:${shardId}`;
      const details = existing.get(place) ?? (await detailsOf(manager, place));
      const at = layouts.findIndex(({ first, shards }) => shardId >= first && shardId < first + shards);
      return { key: place, shardId, details, layout: at === -1 ? undefined : at + 1 };
    }),
  );
  return {
    places: [...(own ? [{ key, shardId: 0, details: own, layout: undefined }] : []), ...places],
    layouts,
    pending,
    last,
  };
}

async function detailsOf(manager: StreamManager, key: string): Promise<ShardDetails | undefined> {
  return (await manager.info(key)).shards.find((each) => each.key === key);
}

/** The owners by the keys of the shards. @throws FailedError when no shard has the group */
async function ownersOf(
  manager: StreamManager,
  key: string,
  group: string,
  { places }: KnownShards,
): Promise<Map<string, ShardOwnerDetails>> {
  if (!places.some(({ details }) => details?.groups.some(({ name }) => name === group))) {
    throw new FailedError(`The stream '${key}' has no group '${group}'`);
  }
  const found = new Map((await manager.owners(key, group)).map((owner) => [owner.key, owner]));
  for (const place of places) {
    if (found.has(place.key)) continue;
    const [owner] = await manager.owners(place.key, group);
    if (owner?.key === place.key) found.set(place.key, owner);
  }
  return found;
}
