import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { FileDamagedError } from 'nestjs-redis-streams/engine';
import { SsDecoder } from 'nestjs-redis-streams/file';
import type { SsFileMessage } from 'nestjs-redis-streams/file';
import { usualFields } from './dump-formats.js';
import type { DumpFormat, NdjsonMessage } from './dump-formats.js';
import { isEntryId } from './entries.js';
import { FailedError } from './failure.js';

/** A message of a file. */
export interface FileMessage {
  /** Offset in the file, in bytes. */
  readonly offset: number;
  readonly streamKey: string;
  readonly shardId: bigint;
  /** Undefined for a message that did not come from Redis. */
  readonly id: string | undefined;
  /** Names and values, alternating. */
  readonly fields: ReadonlyArray<string | Buffer>;
  readonly size: number;
}

export interface ReadOptions {
  /** Called for each damaged part, which is skipped. Without it, the first damage is thrown. */
  readonly onDamage?: ((damage: FileDamagedError) => void) | undefined;
}

const NEWLINE = 0x0a;
const SS_MARK = 'Ss';
/** Longest line of an ndjson file: a payload of 512 MiB as base64 does not fit into a string of Node.js. */
const MAX_LINE = 512 * 1024 * 1024;

/** The format, recognised by the first bytes of the file. @throws FileDamagedError if it is neither */
export async function formatOf(file: string): Promise<DumpFormat> {
  const handle = await open(file, 'r');
  try {
    if (!(await handle.stat()).isFile())
      throw new FailedError(`${file} is not a regular file, and load reads it twice`);
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(2), 0, 2, 0);
    const start = buffer.toString('latin1', 0, bytesRead);
    if (start === '') throw new FileDamagedError(0, 'it is empty');
    if (SS_MARK.startsWith(start)) return 'ss';
    if (start.startsWith('{')) return 'ndjson';
    throw new FileDamagedError(0, 'it is neither a SeaStreamer file nor lines of JSON');
  } finally {
    await handle.close();
  }
}

/** The messages of a file, each checked. @throws FileDamagedError */
export function readFile(file: string, format: DumpFormat, options: ReadOptions): AsyncGenerator<FileMessage> {
  return format === 'ss' ? readSs(file, options) : readNdjson(file, options);
}

async function* readSs(file: string, { onDamage }: ReadOptions): AsyncGenerator<FileMessage> {
  const decoder = new SsDecoder({ salvage: onDamage !== undefined });
  if (onDamage) decoder.on('damaged', onDamage);
  const source = createReadStream(file);
  source.on('error', (error) => decoder.destroy(error));
  try {
    for await (const message of source.pipe(decoder) as AsyncIterable<SsFileMessage>) {
      const { offset, streamKey, shardId, sequence, timestamp, payload } = message;
      const time = sequence >> 16n;
      // Other programs number their messages from 0.
      const isFromRedis = sequence > 0n && time === BigInt(timestamp.getTime());
      const id = isFromRedis ? `${time}-${sequence & 0xffffn}` : undefined;
      const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
      yield { offset, streamKey, shardId, id, fields: usualFields(bytes, {}), size: bytes.length };
    }
  } finally {
    source.destroy();
  }
}

async function* readNdjson(file: string, { onDamage }: ReadOptions): AsyncGenerator<FileMessage> {
  const source = createReadStream(file);
  let offset = 0;
  let parts: Buffer[] = [];
  let held = 0;
  const damaged = (reason: string): void => {
    const damage = new FileDamagedError(offset, reason);
    if (!onDamage) throw damage;
    onDamage(damage);
  };
  for await (const chunk of source as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const line = Buffer.concat([...parts, chunk.subarray(start, end)]);
      const message = held > MAX_LINE ? 'a line is too long' : lineMessage(line, offset);
      if (typeof message === 'string') damaged(message);
      else yield message;
      offset += held + end - start + 1;
      [parts, held] = [[], 0];
      start = end + 1;
    }
    held += chunk.length - start;
    // The rest of a line that is too long is not kept.
    if (held <= MAX_LINE) parts.push(chunk.subarray(start));
    else parts = [];
  }
  if (held === 0) return;
  // In a file that was written by hand, the last line may be complete without a newline.
  const message = held > MAX_LINE ? 'a line is too long' : lineMessage(Buffer.concat(parts), offset);
  if (typeof message === 'string') damaged('the file ends in the middle of a line');
  else yield message;
}

/** The message of a line, or the reason why it is none. */
function lineMessage(line: Buffer, offset: number): FileMessage | string {
  const value = parsed(line);
  if (!isNdjsonMessage(value)) return 'a line is not a message';
  const { id, streamKey, shardId, headers, payload, encoding, storedFields } = value;
  const fields = storedFields
    ? storedFields.map((field) => Buffer.from(field, 'base64'))
    : usualFields(Buffer.from(payload, encoding), headers);
  return { offset, streamKey, shardId: BigInt(shardId), id, fields, size: line.length };
}

function parsed(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString());
  } catch {
    return undefined;
  }
}

function isNdjsonMessage(value: unknown): value is NdjsonMessage {
  if (typeof value !== 'object' || value === null) return false;
  const { id, streamKey, shardId, headers, payload, encoding, storedFields } = value as Record<string, unknown>;
  return (
    (id === undefined || (typeof id === 'string' && isEntryId(id))) &&
    typeof streamKey === 'string' &&
    streamKey !== '' &&
    Number.isSafeInteger(shardId) &&
    Number(shardId) >= 0 &&
    typeof headers === 'object' &&
    headers !== null &&
    Object.values(headers).every((header) => typeof header === 'string') &&
    typeof payload === 'string' &&
    (encoding === 'utf8' || (encoding === 'base64' && isBase64(payload))) &&
    (storedFields === undefined || isFieldList(storedFields))
  );
}

function isFieldList(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.length % 2 === 0 &&
    value.every((field) => typeof field === 'string' && isBase64(field))
  );
}

function isBase64(text: string): boolean {
  return Buffer.from(text, 'base64').toString('base64') === text;
}
