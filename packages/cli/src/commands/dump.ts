import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { Option } from 'commander';
import { PermissionError, SequenceOverflowError, entryId } from 'nestjs-redis-streams/engine';
import type { RangeBound, StreamManager } from 'nestjs-redis-streams/engine';
import { encoderOf, ssMessage } from '../dump-formats.js';
import type { DumpFormat } from '../dump-formats.js';
import { DumpTarget } from '../dump-target.js';
import { entriesOf, isNanoseconds } from '../entries.js';
import type { Entry } from '../entries.js';
import { FailedError, UsageError } from '../failure.js';
import { counted, readableBytes, sum } from '../numbers.js';
import type { Output } from '../output.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
import { action, examples } from '../session.js';
import type { Session } from '../session.js';
import { existingStream, literal, streamKeysOf } from '../streams.js';
import { TIME, timeOf } from '../time.js';

interface DumpOptions {
  stream: string[];
  output: string;
  since?: string;
  until?: string;
  format?: DumpFormat;
  force?: boolean;
}

/** A key to dump, with the stream and shard that it has in the file. */
interface Source {
  readonly key: string;
  readonly streamKey: string;
  readonly shardId: number;
  readonly length: number;
  readonly firstId: string | undefined;
  readonly lastId: string | undefined;
}

/** The keys of one stream. */
interface DumpedStream {
  readonly name: string;
  readonly sources: readonly Source[];
  messages: number;
}

/** Stream keys that the Rust tools accept. */
const REFERENCE_KEY = /^[A-Za-z0-9._-]{1,249}$/;
const MAX_MILLISECONDS = 2n ** 48n;
const MAX_COUNTER = 2n ** 16n;

export function addDump(program: Command): void {
  program
    .command('dump')
    .description('write the messages of streams to a file')
    .requiredOption('--stream <key...>', 'the streams to dump, with their shards; may be repeated')
    .requiredOption('--output <file>', 'the file to write; - is the standard output')
    .option('--since <time>', `messages since this time: ${TIME}`)
    .option('--until <time>', 'messages until this time')
    .addOption(
      new Option(
        '--format <format>',
        'ss: a SeaStreamer file, which has no headers; ndjson: lines of JSON (default: by the name of the file, else ss)',
      ).choices(['ss', 'ndjson']),
    )
    .option('--force', 'overwrite the file if it exists')
    .addHelpText(
      'after',
      examples(
        ['nrs dump --stream orders --output orders.ss', 'writes all messages of orders, with those of its shards'],
        [
          'nrs dump --stream orders --stream payments --since 24h --output day.ndjson',
          'writes those of the last day, with their headers, as lines of JSON',
        ],
      ),
    )
    .action(action<[], DumpOptions>(async (session, _args, options) => dump(session, options)));
}

async function dump(session: Session, options: DumpOptions): Promise<void> {
  const { force = false } = options;
  const file = options.output === '-' ? '/dev/stdout' : options.output;
  const format = options.format ?? (/\.(ndjson|jsonl)$/i.test(file) ? 'ndjson' : 'ss');
  const since = options.since === undefined ? undefined : timeOf('--since', options.since);
  const until = options.until === undefined ? undefined : timeOf('--until', options.until);
  if (since && until && since > until) throw new UsageError('--since must be before --until');
  const signal = session.interruption();
  const manager = await session.manager();
  const streams = await streamsOf(manager, [...new Set(options.stream)]);
  if (format === 'ss') await checkForSs(session, streams);
  const isWhole = since === undefined && until === undefined;
  const total = isWhole ? sum(streams.flatMap(({ sources }) => sources.map(({ length }) => length))) : 0;

  if (signal.aborted) throw new FailedError(`${(signal.reason as Error).message}; ${file} was not written`);
  const target = await DumpTarget.open(file, force);
  const encoder = encoderOf(format, basename(file));
  const progress = new Progress(session.output, 'Dumped', total);
  const work: DumpWork = { streams, format, since, until, signal, progress, losses: 0 };
  try {
    await pipeline(messagesFor(manager, work), encoder, target.stream, { end: !target.isStandardOutput });
  } catch (error) {
    await target.discard();
    throw dumpFailure(error, file, target);
  } finally {
    progress.end();
  }
  await target.publish();
  if (work.losses > 0) {
    await session.output.warn(
      `${counted(work.losses, 'message')} had headers or other fields, which a .ss file cannot hold; --format ndjson keeps them`,
    );
  }
  await report(session.output, streams, { file, format, target, progress });
  if (signal.aborted) {
    const { message } = signal.reason as Error;
    throw new FailedError(`${message}; ${file} is valid, and ends with the last message that is counted here`);
  }
}

interface DumpWork {
  readonly streams: readonly DumpedStream[];
  readonly format: DumpFormat;
  readonly since: Date | undefined;
  readonly until: Date | undefined;
  readonly signal: AbortSignal;
  readonly progress: Progress;
  /** Messages of which the file does not hold everything. */
  losses: number;
}

/** What the encoder takes for each entry, until the signal aborts. */
async function* messagesFor(manager: StreamManager, work: DumpWork): AsyncGenerator<unknown> {
  const { streams, format, since, until, signal, progress } = work;
  for (const stream of streams) {
    for await (const entry of messagesOf(manager, stream, since, until)) {
      if (signal.aborted) return;
      stream.messages += 1;
      progress.add(1, entry.message.payload.length);
      if (format === 'ndjson') yield entry;
      else {
        if (!isPayloadAlone(entry)) work.losses += 1;
        yield ssMessage(entry);
      }
    }
  }
}

/** The keys of the streams, with the last ids that they have now: a dump of later entries might never end. */
async function streamsOf(manager: StreamManager, names: readonly string[]): Promise<DumpedStream[]> {
  const streams: DumpedStream[] = [];
  const all = await allKeys(manager);
  for (const name of names) {
    const shardName = new RegExp(`^${literal(name)}:(0|[1-9]\\d{0,15})$`);
    const far = all.filter((key) => shardName.test(key));
    const { shards } = far.length > 0 ? await manager.info(name) : await existingStream(manager, name);
    const found: Array<Omit<Source, 'streamKey'>> = [...shards];
    // Numbers after a large gap.
    for (const key of far.filter((each) => found.every((shard) => shard.key !== each))) {
      const { length, firstId, lastId } = await manager.info(key);
      found.push({ key, shardId: Number(key.slice(name.length + 1)), length, firstId, lastId });
    }
    const filled = found.filter(({ length }) => length > 0);
    // A stream with shards is recognised in the file only by a shard after the first.
    const isSharded = filled.some(({ shardId }) => shardId > 0) && filled.every(({ key }) => key !== name);
    const sources = filled.map((shard) => ({
      ...shard,
      streamKey: isSharded ? name : shard.key,
      shardId: isSharded ? shard.shardId : 0,
    }));
    streams.push({ name, sources, messages: 0 });
  }
  return streams;
}

/** Empty if the user may not list keys; then shards up to a gap of 32 numbers are found. */
async function allKeys(manager: StreamManager): Promise<string[]> {
  try {
    return (await streamKeysOf(manager)).keys;
  } catch (error) {
    if (error instanceof PermissionError) return [];
    throw error;
  }
}

/** The entries of a stream: its shards are merged by id, streams under several keys follow one another. */
async function* messagesOf(
  manager: StreamManager,
  { sources }: DumpedStream,
  since: Date | undefined,
  until: Date | undefined,
): AsyncGenerator<Entry> {
  for (const streamKey of new Set(sources.map((source) => source.streamKey))) {
    const places = sources.filter((source) => source.streamKey === streamKey);
    const lastId = places.reduce((last, place) => higherId(last, place.lastId ?? '0-0'), '0-0');
    const unit = isNanoseconds(lastId) ? 1_000_000n : 1n;
    const from: RangeBound = since ? `${BigInt(since.getTime()) * unit}-0` : '-';
    const end = until ? `${(BigInt(until.getTime()) + 1n) * unit - 1n}-${2n ** 64n - 1n}` : lastId;
    const to = entryId.compare(end, lastId) < 0 ? end : lastId;
    yield* entriesOf(manager, streamKey, places, () => from, to);
  }
}

/** @throws FailedError before the file is written */
async function checkForSs({ output }: Session, streams: readonly DumpedStream[]): Promise<void> {
  const sources = streams.flatMap((stream) => stream.sources);
  for (const { key, firstId, lastId } of sources) {
    for (const id of [firstId, lastId]) if (id !== undefined && !fitsSs(id)) throw unfit(key, id);
  }
  const foreign = sources.find(({ streamKey }) => !REFERENCE_KEY.test(streamKey));
  if (!foreign) return;
  const { streamKey } = foreign;
  if (Buffer.byteLength(streamKey) > 255) {
    throw new FailedError(`The key '${streamKey}' is too long for a .ss file; use --format ndjson`);
  }
  await output.warn(
    `The tools of SeaStreamer read stream keys of a-z A-Z 0-9 . _ - only, and will refuse '${streamKey}'; this tool loads it`,
  );
}

function unfit(key: string, id: string): FailedError {
  const why = isNanoseconds(id) ? 'is in nanoseconds' : 'is too large';
  return new FailedError(`The id ${id} of '${key}' ${why}, and does not fit into a .ss file; use --format ndjson`);
}

function fitsSs(id: string): boolean {
  const [milliseconds = '0', counter = '0'] = id.split('-');
  return BigInt(milliseconds) < MAX_MILLISECONDS && BigInt(counter) < MAX_COUNTER;
}

function higherId(one: string, other: string): string {
  return entryId.compare(one, other) < 0 ? other : one;
}

/** Whether a .ss file can hold the whole entry. */
function isPayloadAlone({ message }: Entry): boolean {
  return message.storedFields.length === 2 && message.hasPayload;
}

interface Written {
  readonly file: string;
  readonly format: DumpFormat;
  readonly target: DumpTarget;
  readonly progress: Progress;
}

/** Beside the results where these are the dump itself. */
async function report(
  output: Output,
  streams: readonly DumpedStream[],
  { file, format, target, progress }: Written,
): Promise<void> {
  const dumped = streams.map(({ name, messages }) => ({ streamKey: name, messages, file, format }));
  const lines = [
    ...dumped.map(({ streamKey, messages }) => `${printable(streamKey)}: ${counted(messages, 'message')}`),
    `${printable(file)}: ${progress.summaryWith(target.bytesWritten)}`,
  ];
  if (target.isStandardOutput) return output.note(...(output.isJson ? [JSON.stringify(dumped)] : lines));
  if (output.isJson) return output.json(dumped);
  for (const line of lines) await output.line(line);
}

function dumpFailure(error: unknown, file: string, { isReversible, bytesWritten }: DumpTarget): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  const advice = error instanceof SequenceOverflowError ? '; use --format ndjson' : '';
  const size = bytesWritten === undefined ? '' : `, and has ${readableBytes(bytesWritten)}`;
  const state = isReversible ? `${file} was not written` : `${file} is incomplete${size}`;
  return new FailedError(`${error.message}${advice}; ${state}`);
}
