import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import { KeyHashSharder, RoundRobinSharder } from 'nestjs-redis-streams/engine';
import type { ProducerOptions, Receipt, SendOptions } from 'nestjs-redis-streams/engine';
import { UsageError } from '../failure.js';
import { countOf } from '../numbers.js';
import { action, examples } from '../session.js';
import type { Session } from '../session.js';

interface SendFlags {
  header?: string[];
  key?: string;
  shards?: string;
}

/** Lines in flight before the first of them is confirmed. */
const MOST_WAITING = 1_000;
const NEWLINE = 10;

export function addSend(program: Command): void {
  program
    .command('send')
    .description('append messages to a stream, and print their ids')
    .argument('<key>', 'the stream')
    .argument('[payload]', 'the payload (default: each line of the standard input is one)')
    .option('--header <name=value>', 'a header; may be repeated', (value: string, all?: string[]) => [
      ...(all ?? []),
      value,
    ])
    .option('--key <key>', 'choose the shard by this key, as KeyHashSharder does')
    .option('--shards <number>', 'number of shards (default: those that exist)')
    .addHelpText(
      'after',
      examples(
        [`nrs send orders '{"id":7}' --header source=ops`, 'appends one message with a header'],
        ['nrs send orders < orders.jsonl', 'appends each line of a file'],
        ["nrs send orders --key customer-7 '{}'", 'appends to the shard of that key'],
      ),
    )
    .action(
      action<[streamKey: string, payload?: string], SendFlags>(async (session, [streamKey, payload], flags) => {
        const options: SendOptions = {
          ...(flags.header && { headers: headersOf(flags.header) }),
          ...(flags.key !== undefined && { key: flags.key }),
        };
        const sharder = await sharderOf(session, streamKey, flags);
        const producer = await (await session.streamer()).createProducer(streamKey, sharder);
        if (payload !== undefined) return print(session, [await producer.send(payload, options)]);
        // Receipts are printed in the order of the lines; a line that fails ends the command.
        const waiting: Array<Promise<Receipt>> = [];
        const receipts: Receipt[] = [];
        const settleFirst = async (): Promise<void> => {
          const receipt = await (waiting.shift() as Promise<Receipt>);
          if (session.output.isJson) receipts.push(receipt);
          else await print(session, [receipt]);
        };
        for await (const line of linesOf(process.stdin)) {
          waiting.push(producer.send(line, options));
          if (waiting.length >= MOST_WAITING) await settleFirst();
        }
        while (waiting.length > 0) await settleFirst();
        if (session.output.isJson) await print(session, receipts);
      }),
    );
}

async function print({ output }: Session, receipts: readonly Receipt[]): Promise<void> {
  if (output.isJson) return output.json(receipts);
  for (const { id } of receipts) await output.line(id);
}

function headersOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new UsageError(`--header must be name=value; got '${pair}'`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

/** Chooses one of the shards of a stream that has any. */
async function sharderOf(session: Session, streamKey: string, { key, shards }: SendFlags): Promise<ProducerOptions> {
  const count = shards === undefined ? await shardsOf(session, streamKey) : countOf('--shards', shards);
  if (count === 0) return {};
  return { sharder: key === undefined ? new RoundRobinSharder(count) : new KeyHashSharder(count) };
}

async function shardsOf(session: Session, streamKey: string): Promise<number> {
  const { shards } = await (await session.manager()).info(streamKey);
  if (shards.length === 0 || shards.some(({ key }) => key === streamKey)) return 0;
  return Math.max(...shards.map(({ shardId }) => shardId)) + 1;
}

/** The lines of an input as bytes, which need not be text, without newlines. */
async function* linesOf(input: Readable): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  for await (const chunk of input as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      yield Buffer.concat([...parts, chunk.subarray(start, end)]);
      parts = [];
      start = end + 1;
    }
    if (start < chunk.length) parts.push(chunk.subarray(start));
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}
