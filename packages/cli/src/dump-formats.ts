import { Transform } from 'node:stream';
import type { TransformCallback } from 'node:stream';
import type { StreamMessage } from 'nestjs-redis-streams/engine';
import { SsEncoder } from 'nestjs-redis-streams/file';
import type { SsMessage } from 'nestjs-redis-streams/file';
import type { Entry } from './entries.js';
import { messageJson } from './messages.js';
import type { MessageJson } from './messages.js';

export type DumpFormat = 'ss' | 'ndjson';

/** A line of an ndjson file. */
export interface NdjsonMessage extends MessageJson {
  /** Names and values, alternating, as base64, of an entry with other fields than payload and headers. */
  readonly storedFields?: readonly string[];
}

const PAYLOAD_FIELD = 'msg';
const HEADER_PREFIX = 'h:';

/** Maximum bytes of the name in the header of a .ss file. */
const MAX_FILE_NAME = 111;

/** Encodes entries, or for a .ss file the results of {@link ssMessage}, to the bytes of the file. */
export function encoderOf(format: DumpFormat, fileName: string): Transform {
  if (format === 'ndjson') return new NdjsonEncoder();
  let name = fileName;
  while (Buffer.byteLength(name) > MAX_FILE_NAME) name = name.slice(0, -1);
  return new SsEncoder({ fileName: name });
}

export function ssMessage({ streamKey, shardId, message }: Entry): SsMessage {
  const { sequence, timestamp, payload } = message;
  return { streamKey, shardId: BigInt(shardId), sequence, timestamp, payload };
}

/** Whether an entry has only payload and headers, in the order in which producers of the library store them. */
function isPlain(message: StreamMessage): boolean {
  const stored = message.storedFields;
  const usual = usualFields(message.payload, message.headers);
  return usual.length === stored.length && usual.every((field, index) => stored[index]?.equals(Buffer.from(field)));
}

/** The fields of an entry with this payload and these headers. */
export function usualFields(payload: Buffer, headers: Readonly<Record<string, string>>): Array<string | Buffer> {
  return [
    PAYLOAD_FIELD,
    payload,
    ...Object.entries(headers).flatMap(([name, value]) => [`${HEADER_PREFIX}${name}`, value]),
  ];
}

class NdjsonEncoder extends Transform {
  constructor() {
    super({ writableObjectMode: true });
  }

  override _transform(entry: Entry, _encoding: BufferEncoding, callback: TransformCallback): void {
    callback(null, `${JSON.stringify(ndjsonMessage(entry))}\n`);
  }
}

function ndjsonMessage(entry: Entry): NdjsonMessage {
  const { message } = entry;
  if (isPlain(message)) return messageJson(entry);
  return { ...messageJson(entry), storedFields: message.storedFields.map((field) => field.toString('base64')) };
}
