import type { RedisStreamsError } from '../errors.js';
import { QueuedSend } from './queued-send.js';
import { Receipt } from './receipt.js';
import { SendResult } from './send-result.js';

type OnFailed = (error: RedisStreamsError) => void;

/** A message of whose fate only a failure is told. */
export class SendWithoutReceipt extends QueuedSend {
  readonly wantsId = false;
  readonly failed: OnFailed;

  constructor(streamKey: string, id: string, fields: QueuedSend['fields'], size: number, onFailed: OnFailed) {
    super(streamKey, id, fields, size);
    this.failed = onFailed;
  }

  accepted(): void {
    // Nobody has asked.
  }
}

/** A message with the promise of its receipt. */
export class SendWithReceipt extends QueuedSend {
  readonly wantsId = true;
  readonly result: SendResult;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: unknown) => void;
  /** The stream, where `streamKey` is the key of its shard. */
  readonly stream: string;
  readonly shardId: number;
  readonly onUnobserved: OnFailed;

  constructor(
    streamKey: string,
    id: string,
    fields: QueuedSend['fields'],
    size: number,
    stream: string,
    shardId: number,
    onUnobserved: OnFailed,
  ) {
    super(streamKey, id, fields, size);
    const { result, resolve, reject } = SendResult.create();
    this.result = result;
    this.resolve = resolve;
    this.reject = reject;
    this.stream = stream;
    this.shardId = shardId;
    this.onUnobserved = onUnobserved;
  }

  accepted(id: string): void {
    this.resolve(new Receipt(this.stream, this.shardId, id));
  }

  failed(error: RedisStreamsError): void {
    SendResult.fail(this, error, this.onUnobserved);
  }
}
