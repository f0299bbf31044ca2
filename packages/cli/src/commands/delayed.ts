import type { Command } from 'commander';
import type { DelayedMessage, StreamManager } from 'nestjs-redis-streams/engine';
import { FailedError, UsageError } from '../failure.js';
import { payloadJson } from '../messages.js';
import { counted, countOf } from '../numbers.js';
import { printable, printableBytes } from '../printable.js';
import { action, examples } from '../session.js';

interface Waiting {
  readonly key: string;
  readonly shardId: number;
  readonly message: DelayedMessage;
}

const PAGE = 250;
const LONGEST_PAYLOAD = 60;

export function addDelayed(program: Command): void {
  const delayed = program.command('delayed').description('list or cancel the messages that wait until they are due');
  addLs(delayed);
  addCancel(delayed);
}

function addLs(delayed: Command): void {
  delayed
    .command('ls')
    .description('list the messages that wait, those that are due first at the beginning')
    .argument('<key>', 'the stream')
    .option('--count <number>', 'at most so many of each shard', '100')
    .addHelpText('after', examples(['nrs delayed ls orders', 'lists what will be appended to orders, and when']))
    .action(
      action<[key: string], { count: string }>(async (session, [key], { count }) => {
        const wanted = countOf('--count', count);
        const manager = await session.manager();
        const found: Waiting[] = [];
        for (const { key: place, shardId } of await placesOf(manager, key)) {
          let left = wanted;
          for await (const message of waitingIn(manager, place)) {
            found.push({ key: place, shardId, message });
            left -= 1;
            if (left === 0) break;
          }
        }
        found.sort((one, other) => one.message.deliverAt.getTime() - other.message.deliverAt.getTime());
        const { output } = session;
        if (output.isJson) {
          return output.json(
            found.map(({ shardId, message: { id, deliverAt, headers, payload } }) => ({
              id,
              streamKey: key,
              shardId,
              deliverAt,
              headers,
              ...payloadJson(payload),
            })),
          );
        }
        await output.table(
          ['ID', 'DUE', 'SHARD', 'PAYLOAD'],
          found.map(({ shardId, message: { id, deliverAt, payload } }) => [
            id,
            deliverAt.toISOString(),
            shardId,
            printableBytes(payload, LONGEST_PAYLOAD),
          ]),
        );
      }),
    );
}

function addCancel(delayed: Command): void {
  delayed
    .command('cancel')
    .description('remove messages that wait; they will never be appended')
    .argument('<key>', 'the stream')
    .argument('[id...]', 'ids that delayed ls or send has printed')
    .option('--all', 'all that wait')
    .option('--dry-run', 'only count them')
    .addHelpText(
      'after',
      examples(
        ['nrs delayed cancel orders 1764270506123-5c1f', 'cancels one message'],
        ['nrs delayed cancel orders --all --dry-run', 'counts all that wait'],
      ),
    )
    .action(
      action<[key: string, ids: string[]], { all?: boolean; dryRun?: boolean }>(
        async (session, [key, ids], { all, dryRun }) => {
          if ((ids.length === 0) !== (all === true)) throw new UsageError('delayed cancel needs either ids or --all');
          const manager = await session.manager();
          const places = await placesOf(manager, key);
          const chosen = all || dryRun ? await waitingIds(manager, places, ids) : ids;
          const missing: string[] = [];
          if (!dryRun && chosen.length > 0) {
            await session.confirm(`Cancels ${counted(chosen.length, 'delayed message')} of '${key}'.`);
            for (const id of chosen) if (!(await cancel(manager, places, id))) missing.push(id);
          }
          const cancelled = chosen.length - missing.length;
          const { output } = session;
          const text = `${dryRun ? 'Would cancel' : 'Cancelled'} ${counted(cancelled, 'delayed message')} of ${printable(key)}`;
          if (output.isJson) await output.json([{ streamKey: key, cancelled, dryRun: dryRun === true }]);
          else await output.line(text);
          // With --all, some may have become due.
          if (missing.length > 0 && !all) throw new FailedError(`None waits with the id ${missing.join(', ')}`);
        },
      ),
    );
}

/** The stream, which need not exist while its messages wait, and its shards. */
async function placesOf(manager: StreamManager, key: string): Promise<Array<{ key: string; shardId: number }>> {
  const { shards } = await manager.info(key);
  const own = shards.some((shard) => shard.key === key) ? [] : [{ key, shardId: 0 }];
  return [...own, ...shards];
}

/** The ids of all that wait, or those of the given ones that do. */
async function waitingIds(
  manager: StreamManager,
  places: ReadonlyArray<{ key: string }>,
  ids: readonly string[],
): Promise<string[]> {
  const wanted = new Set(ids);
  const found: string[] = [];
  for (const { key } of places) {
    for await (const { id } of waitingIn(manager, key)) if (wanted.size === 0 || wanted.has(id)) found.push(id);
  }
  return found;
}

async function* waitingIn(manager: StreamManager, key: string): AsyncGenerator<DelayedMessage> {
  for (let after: string | undefined; ;) {
    const page = await manager.delayed(key, { count: PAGE, ...(after !== undefined && { after }) });
    yield* page;
    after = page.at(-1)?.id;
    if (page.length < PAGE || after === undefined) return;
  }
}

async function cancel(manager: StreamManager, places: ReadonlyArray<{ key: string }>, id: string): Promise<boolean> {
  for (const { key } of places) if (await manager.cancelDelayed(key, id)) return true;
  return false;
}
