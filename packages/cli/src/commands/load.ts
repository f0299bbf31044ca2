import type { Command } from 'commander';
import { Option } from 'commander';
import type { Cluster, Redis } from 'ioredis';
import { FileDamagedError, entryId } from 'nestjs-redis-streams/engine';
import { Appender } from '../appender.js';
import { formatOf, readFile } from '../dump-reader.js';
import type { FileMessage } from '../dump-reader.js';
import type { DumpFormat } from '../dump-formats.js';
import { FailedError, UsageError } from '../failure.js';
import { contradictionAt, Survey } from '../survey.js';
import { counted, sum } from '../numbers.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
import { action, examples } from '../session.js';
import type { Session } from '../session.js';

interface LoadOptions {
  input: string;
  stream?: string;
  keepIds?: boolean;
  newIds?: boolean;
  salvage?: boolean;
  dryRun?: boolean;
}

/** A stream of the file, and the stream that it is loaded to. */
interface Target {
  /** The key in the file. */
  readonly source: string;
  /** The key in Redis. */
  readonly streamKey: string;
  readonly isSharded: boolean;
  readonly messages: number;
  /** Entries that the stream has already. */
  readonly entries: number;
  readonly keepsIds: boolean;
  /** By key, with the prefix. */
  readonly lastIds: ReadonlyMap<string, string>;
  loaded: number;
}

/** Limits of one batch: messages, and about as many bytes. */
const BATCH_MESSAGES = 500;
const BATCH_BYTES = 1024 * 1024;
/** Damaged parts that are printed at most. */
const MOST_NOTED = 10;

export function addLoad(program: Command): void {
  program
    .command('load')
    .description('append the messages of a file that dump wrote')
    .requiredOption('--input <file>', 'a .ss or ndjson file')
    .option('--stream <key>', 'load to this key, from a file with one stream')
    .addOption(
      new Option(
        '--keep-ids',
        'keep the ids of the file, or load nothing (default: keep them where the stream accepts them)',
      ).conflicts('newIds'),
    )
    .option('--new-ids', 'give the messages new ids')
    .option('--salvage', 'load the intact messages of a damaged file')
    .option('--dry-run', 'check the file, and load nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs load --input orders.ss', 'checks the whole file, then appends its messages'],
        [
          'nrs load --input orders.ss --stream orders-copy --new-ids',
          'appends them to another stream, as new messages',
        ],
        ['nrs load --input orders.ss --salvage --dry-run', 'lists the damaged parts'],
      ),
    )
    .action(action<[], LoadOptions>(async (session, _args, options) => load(session, options)));
}

async function load(session: Session, options: LoadOptions): Promise<void> {
  const { input: file, salvage = false, dryRun = false } = options;
  const signal = session.interruption();
  const { format, survey } = await checked(session, file, salvage, signal);
  const redis = await session.redis();
  const targets = await targetsOf(redis, session.prefix, survey, options);
  const filled = targets.filter(({ entries }) => entries > 0);
  if (filled.length > 0 && !dryRun) await session.confirm(...filled.map(question));
  if (!dryRun) await append(session, { file, format, survey, targets, salvage, signal });
  await report(session, targets, dryRun);
}

/** The first pass over the whole file. @throws FailedError if it is damaged and not salvaged */
async function checked(
  { output }: Session,
  file: string,
  salvage: boolean,
  signal: AbortSignal,
): Promise<{ format: DumpFormat; survey: Survey }> {
  const damages: FileDamagedError[] = [];
  let damaged = 0;
  const note = (damage: FileDamagedError): void => {
    damaged += 1;
    if (damages.length < MOST_NOTED) damages.push(damage);
  };
  const survey = new Survey();
  const progress = new Progress(output, 'Checked', 0);
  try {
    const format = await formatOf(file);
    for await (const message of readFile(file, format, { onDamage: salvage ? note : undefined })) {
      if (signal.aborted) throw new FailedError(`${(signal.reason as Error).message}; nothing was loaded`);
      survey.add(message);
      progress.add(1, message.size);
    }
    const { contradiction } = survey;
    if (contradiction) {
      if (!salvage) throw contradiction;
      note(contradiction);
    }
    for (const { message } of damages) await output.note(`${file}: ${message}`);
    if (damaged > damages.length) await output.note(`${file}: ${damaged} damaged parts in all`);
    return { format, survey };
  } catch (error) {
    if (!(error instanceof FileDamagedError)) throw error;
    const advice = salvage ? '' : '; --salvage loads the intact messages';
    throw new FailedError(`${file}: ${error.message}. Nothing was loaded${advice}`);
  } finally {
    progress.end();
  }
}

async function targetsOf(
  redis: Redis | Cluster,
  prefix: string,
  survey: Survey,
  { stream: name, keepIds, newIds = false }: LoadOptions,
): Promise<Target[]> {
  const sources = [...survey.streams];
  if (name !== undefined && sources.length > 1) {
    const names = sources.map(([streamKey]) => streamKey).join(', ');
    throw new UsageError(`--stream names one stream, and the file has ${sources.length}: ${names}`);
  }
  return Promise.all(
    sources.map(async ([source, { shards, withId, withoutId, disorder, noId }]) => {
      const streamKey = name ?? source;
      const isSharded = [...shards.keys()].some((shardId) => shardId > 0n);
      const states = await Promise.all(
        [...shards].map(async ([shardId, { firstId }]) => {
          const key = prefix + keyOf(streamKey, shardId, isSharded);
          return { key, firstId, ...(await stateOf(redis, key)) };
        }),
      );
      const late = states.find(({ firstId, lastId }) => firstId !== undefined && entryId.compare(firstId, lastId) <= 0);
      if (!newIds && withId > 0 && disorder !== undefined) {
        throw new FailedError(
          `The ids of '${source}' do not ascend at byte ${disorder} of the file; --new-ids loads it`,
        );
      }
      if (keepIds && withId === 0) {
        throw new FailedError(`The message at byte ${noId} of the file has no id of Redis; --new-ids loads it`);
      }
      if (keepIds && late) {
        const why = `it has had the id ${late.lastId}, and the file begins with ${late.firstId}`;
        throw new FailedError(`'${streamKey}' does not take the ids of the file: ${why}; --new-ids loads it`);
      }
      return {
        source,
        streamKey,
        isSharded,
        messages: withId > 0 ? withId : withoutId,
        entries: sum(states.map(({ entries }) => entries)),
        keepsIds: !newIds && withId > 0 && late === undefined,
        lastIds: new Map(states.map(({ key, lastId }) => [key, lastId])),
        loaded: 0,
      };
    }),
  );
}

/** The number of entries of a key, and its last generated id, which can be that of a deleted entry. */
async function stateOf(redis: Redis | Cluster, key: string): Promise<{ entries: number; lastId: string }> {
  try {
    const reply = (await redis.xinfo('STREAM', key)) as unknown[];
    const valueOf = (name: string): string => String(reply[reply.indexOf(name) + 1]);
    return { entries: Number(valueOf('length')), lastId: valueOf('last-generated-id') };
  } catch (error) {
    if (error instanceof Error && error.message.startsWith('ERR no such key')) return { entries: 0, lastId: '0-0' };
    throw error;
  }
}

interface Work {
  readonly file: string;
  readonly format: DumpFormat;
  readonly survey: Survey;
  readonly targets: readonly Target[];
  readonly salvage: boolean;
  readonly signal: AbortSignal;
}

/** The second pass, which appends. */
async function append(session: Session, work: Work): Promise<void> {
  const { file, format, survey, targets, salvage, signal } = work;
  const bySource = new Map(targets.map((target) => [target.source, target]));
  const appender = new Appender(session, new Map(targets.flatMap(({ lastIds }) => [...lastIds])));
  const progress = new Progress(session.output, 'Loaded', sum(targets.map(({ messages }) => messages)));
  const batch = new Map<string, FileMessage[]>();
  let [waiting, bytes] = [0, 0];
  const flush = async (): Promise<void> => {
    for (const [key, messages] of batch) {
      const target = bySource.get(messages[0]?.streamKey ?? '') as Target;
      await appender.append(session.prefix + key, messages, target.keepsIds);
      target.loaded += messages.length;
      progress.add(messages.length, sum(messages.map(({ size }) => size)));
    }
    batch.clear();
    [waiting, bytes] = [0, 0];
  };
  try {
    for await (const message of readFile(file, format, { onDamage: salvage ? () => undefined : undefined })) {
      if (signal.aborted) throw signal.reason;
      const target = bySource.get(message.streamKey);
      if (!target || survey.isContradictory(message)) {
        // The first pass has reported it; without --salvage the file has changed since.
        if (salvage) continue;
        throw contradictionAt(message.offset);
      }
      const key = keyOf(target.streamKey, message.shardId, target.isSharded);
      const messages = batch.get(key);
      if (messages) messages.push(message);
      else batch.set(key, [message]);
      waiting += 1;
      bytes += message.size;
      if (waiting >= BATCH_MESSAGES || bytes >= BATCH_BYTES) await flush();
    }
    await flush();
  } catch (error) {
    const loaded = targets.map(({ streamKey, loaded: count, messages }) => `${streamKey}: ${count} of ${messages}`);
    const perhaps = appender.uncertain > 0 ? `, and perhaps the next ${appender.uncertain}` : '';
    throw new FailedError(`${(error as Error).message}; loaded until then: ${loaded.join(', ')}${perhaps}`);
  } finally {
    progress.end();
  }
}

function keyOf(streamKey: string, shardId: bigint, isSharded: boolean): string {
  return isSharded ? `${streamKey}:${shardId}` : streamKey;
}

function question({ streamKey, entries, messages, keepsIds }: Target): string {
  const ids = keepsIds ? 'their ids' : 'new ids';
  return `'${streamKey}' has ${counted(entries, 'entry', 'entries')}; ${counted(messages, 'message')} would be appended, with ${ids}.`;
}

async function report({ output }: Session, targets: readonly Target[], dryRun: boolean): Promise<void> {
  if (output.isJson) {
    const rows = targets.map(({ streamKey, messages, loaded, keepsIds }) => ({
      streamKey,
      messages: dryRun ? messages : loaded,
      ids: keepsIds ? 'kept' : 'new',
    }));
    return output.json(rows);
  }
  if (targets.length === 0) await output.line('The file has no messages');
  for (const { streamKey, messages, loaded, keepsIds } of targets) {
    const done = dryRun ? `${counted(messages, 'message')} would be loaded` : `${counted(loaded, 'message')} loaded`;
    await output.line(`${printable(streamKey)}: ${done}, with ${keepsIds ? 'their ids' : 'new ids'}`);
  }
}
