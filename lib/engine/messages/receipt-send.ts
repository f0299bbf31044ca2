import type { RedisStreamsError } from '../../errors.js';
import { QueuedSend } from './queued-send.js';
import type { SendContent } from './queued-send.js';
import { Receipt } from './receipt.js';
import { SendPromise } from '../producing/send-promise.js';

/** Told once what became of a message: that Redis has it, or why not. */
export type OnSettled = (failure: RedisStreamsError | undefined) => void;

/** A message whose id nobody wants to know. */
export class SendWithoutReceipt extends QueuedSend {
  readonly onSettled: OnSettled;

  constructor(content: SendContent, onSettled: OnSettled) {
    super(content);
    this.onSettled = onSettled;
  }

  get wantsId(): boolean {
    return false;
  }

  accepted(): void {
    this.onSettled(undefined);
  }

  failed(error: RedisStreamsError): void {
    this.onSettled(error);
  }
}

/** A message with the promise of its receipt. */
export class SendWithReceipt extends QueuedSend {
  readonly result: SendPromise;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: unknown) => void;
  /** The stream, where `streamKey` is the key of its shard. */
  readonly stream: string;
  readonly shardId: number;
  readonly onUnobserved: (error: RedisStreamsError) => void;

  constructor(content: SendContent, stream: string, shardId: number, onUnobserved: (error: RedisStreamsError) => void) {
    super(content);
    const { result, resolve, reject } = SendPromise.create();
    this.result = result;
    this.resolve = resolve;
    this.reject = reject;
    this.stream = stream;
    this.shardId = shardId;
    this.onUnobserved = onUnobserved;
  }

  get wantsId(): boolean {
    return true;
  }

  accepted(id: string): void {
    this.resolve(new Receipt(this.stream, this.shardId, id));
  }

  failed(error: RedisStreamsError): void {
    SendPromise.fail(this, error, this.onUnobserved);
  }
}
