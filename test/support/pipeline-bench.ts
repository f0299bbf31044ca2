import { afterAll } from '@jest/globals';

import { OutgoingMessage } from '../../lib/engine/messages/outgoing-message.js';
import type { MessageSender } from '../../lib/engine/messages/outgoing-message.js';
import { WritePipeline } from '../../lib/engine/producing/write-pipeline.js';
import type { WritePipelineOptions } from '../../lib/engine/producing/write-pipeline.js';
import { ConnectionError } from '../../lib/errors.js';
import type { RedisStreamsError } from '../../lib/errors.js';
import type { BatchWriter, WriteBatch } from '../../lib/redis/commands/stream-commands.js';
import { ReplyError } from '../../lib/redis/wire/resp-reader.js';
import { withResolvers } from '../../lib/shared/deferred.js';

export type Outcomes = Array<string | Error>;

/** An append that was asked for, to be answered by the test. */
export interface Append {
  readonly streamKey: string;
  readonly ids: string[];
  answer(outcomes?: Outcomes): void;
  fail(error: Error): void;
}

const open: WritePipeline[] = [];
afterAll(() => {
  for (const pipeline of open) pipeline.close();
});

/** A pipeline whose appends the test answers, unless it gives a writer of its own. Each message settles as its id, or as `id: code`. */
export function setUpPipeline(options: Partial<WritePipelineOptions> = {}, writer: Partial<BatchWriter> = {}) {
  const appends: Append[] = [];
  const settled: string[] = [];
  const write = ({ streamKey, requests }: WriteBatch): Promise<Outcomes> => {
    const { promise, resolve } = withResolvers<Outcomes>();
    const ids = requests.map(({ id }) => id);
    const fail = (error: Error): void => resolve(ids.map(() => error));
    appends.push({ streamKey, ids, answer: (outcomes = ids) => resolve(outcomes), fail });
    return promise;
  };
  const pipeline = new WritePipeline({
    writer: {
      wasReached: true,
      laneOf: () => '',
      canWrite: () => true,
      payloadLimit: () => undefined,
      prepare: async () => undefined,
      write,
      ...writer,
    },
    delivery: 'at-least-once',
    timeout: 60_000,
    connectTimeout: 10_000,
    maxBatch: 500,
    maxQueued: 1_000,
    maxQueuedBytes: 1_000,
    trim: {},
    ...options,
  });
  open.push(pipeline);
  class TestMessage extends OutgoingMessage {
    override get wantsId(): boolean {
      return true;
    }
    accepted(accepted: string): void {
      settled.push(accepted);
    }
    failed({ code }: RedisStreamsError): void {
      settled.push(`${this.id}: ${code}`);
    }
  }
  const push = (id: string, key = 's', size = 1, payload = ''): void => {
    const message = new TestMessage(SENDER, key, payload, size);
    message.terms = { id, conditions: undefined };
    pipeline.push(message);
  };
  return { pipeline, appends, settled, push };
}

/** Of messages that a test pushes itself. */
export const SENDER: MessageSender = {
  messageField: 'msg',
  timestampFormat: 'ms',
  waitsForReplicas: false,
  onNanoseconds: () => undefined,
  onUnobserved: () => undefined,
};

export const lost = (): Error => new ConnectionError('the connection broke');
export const reply = (message: string): Error => new ReplyError(message);
