import 'reflect-metadata';
import { setTimeout as pause } from 'node:timers/promises';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsDeadLetterException, ServerRedisStreams } from '../../lib/index.js';
import type { RedisStreamsContext } from '../../lib/index.js';
import { moduleOf, onBatch, onEvent } from './controllers.js';
import type { ChildEvent, NestChildInput } from './nest-process.js';

// The program of a service that the test kills, or that exits by itself. The payload defines what the handler does.
const input = JSON.parse(process.argv[2] as string) as NestChildInput;

/** @public */
export interface ChildTask {
  n: number;
  /** Milliseconds that the handler takes. */
  takes?: number;
  /** Milliseconds for which the handler blocks the event loop. */
  blocks?: number;
  /** The handler exits the process, as a crash does. */
  exits?: boolean;
  fails?: boolean;
  /** Makes the message a dead letter at once. */
  refuses?: boolean;
}

function report(event: ChildEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

function block(time: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time);
}

const silent = { error: () => undefined, warn: () => undefined, log: () => undefined };
async function handle(task: ChildTask, context: RedisStreamsContext): Promise<void> {
  report({ started: task.n, id: context.getMessageId(), deliveryCount: context.getDeliveryCount() });
  if (task.exits) process.exit(7);
  if (task.blocks) block(task.blocks);
  if (task.takes) await pause(task.takes);
  if (task.refuses) throw new RedisStreamsDeadLetterException(`refused ${task.n}`);
  if (task.fails) throw new Error(`cannot do ${task.n}`);
  if (input.extras?.ack === 'manual') context.ack();
  report({ done: task.n });
}

const controller = input.extras?.batch
  ? onBatch(
      input.pattern,
      async (tasks: ChildTask[], contexts) => {
        for (const [index, task] of tasks.entries()) await handle(task, contexts[index] as RedisStreamsContext);
      },
      input.extras,
    )
  : onEvent(input.pattern, handle, input.extras);

async function run(): Promise<void> {
  // The parent process has exited.
  process.stdin.on('close', () => process.exit()).resume();
  (process.stdin as unknown as { unref?(): void }).unref?.();
  const logger = input.isSilent ? { logger: silent } : {};
  const strategy = new ServerRedisStreams({ ...input.options, ...logger });
  strategy.on('error', (error) => {
    if ('code' in error) report({ error: error.code });
  });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(moduleOf({ controllers: [controller] }), {
    strategy,
    logger: ['error'],
  });
  app.enableShutdownHooks();
  await app.listen();
  report({ listening: true });
}

void run();
