import 'reflect-metadata';
import { setTimeout as pause } from 'node:timers/promises';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsDeadLetterException, ServerRedisStreams } from '../../lib/index.js';
import { moduleOf, onEvent } from './controllers.js';
import type { ChildEvent, NestChildOrders } from './nest-process.js';

// The program of a service that is going to be killed, or ends itself. A payload says what its handling does.
const orders = JSON.parse(process.argv[2] as string) as NestChildOrders;

/** @public */
export interface ChildTask {
  n: number;
  /** Milliseconds that the handling takes. */
  takes?: number;
  /** Milliseconds for which nothing else runs in the process. */
  blocks?: number;
  /** Ends the process in the middle of the handling, as a crash does. */
  exits?: boolean;
  fails?: boolean;
  /** Makes the message a dead letter at once. */
  refuses?: boolean;
}

function say(event: ChildEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

function block(time: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time);
}

const silent = { error: () => undefined, warn: () => undefined, log: () => undefined };
const controller = onEvent(orders.pattern, async (task: ChildTask, context) => {
  say({ started: task.n, id: context.getMessageId(), deliveryCount: context.getDeliveryCount() });
  if (task.exits) process.exit(7);
  if (task.blocks) block(task.blocks);
  if (task.takes) await pause(task.takes);
  if (task.refuses) throw new RedisStreamsDeadLetterException(`refused ${task.n}`);
  if (task.fails) throw new Error(`cannot do ${task.n}`);
  say({ done: task.n });
});

async function run(): Promise<void> {
  // Whoever started us is gone.
  process.stdin.on('close', () => process.exit()).resume();
  (process.stdin as unknown as { unref?(): void }).unref?.();
  const logger = orders.isSilent ? { logger: silent } : {};
  const strategy = new ServerRedisStreams({ ...orders.options, ...logger });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(moduleOf({ controllers: [controller] }), {
    strategy,
    logger: ['error'],
  });
  app.enableShutdownHooks();
  await app.listen();
  say({ listening: true });
}

void run();
