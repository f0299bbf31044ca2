import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamsModule, ServerRedisStreams } from '../../lib/index.js';
import { until } from '../../test/support/until.js';
import { BackOffice } from './back-office.js';
import { Bank, PaymentsController } from './payments.js';

const keyPrefix = process.env['KEY_PREFIX'];

const strategy = new ServerRedisStreams({
  keyPrefix,
  group: 'payments-service',
  // Three attempts for each payment, with delays of 250 ms and 500 ms between them.
  retry: { attempts: 3, delay: 250, factor: 2, jitter: 0 },
  onDeadLetter: ({ message, reason }) => console.log(`${message.json<{ id: string }>().id}: dead, ${reason}`),
  // A dead letter that is put back is claimed in the next round of auto-claim. Default 30 s.
  autoClaimInterval: 500,
  autoCommitInterval: 100,
});

@Module({
  imports: [RedisStreamsModule.forRoot({ keyPrefix })],
  controllers: [PaymentsController],
  providers: [Bank, BackOffice],
})
class PaymentsModule {}

// Without a logger: the failures here are intended, and would be logged as errors with their stack.
const app = await NestFactory.createMicroservice<MicroserviceOptions>(PaymentsModule, { strategy, logger: false });
app.enableShutdownHooks();
await app.listen();
const [office, bank] = [app.get(BackOffice), app.get(Bank)];

const payments = [
  { id: 'easy', amount: 1 },
  { id: 'slow-line', amount: 2 },
  { id: 'nothing', amount: 0 },
  { id: 'big-sum', amount: 1_000_000 },
];
/** Whether each payment is paid or a dead letter, and acknowledged. */
async function areSettled(): Promise<boolean> {
  const settled = bank.paid.length + (await office.deadLetters()).length;
  return settled === payments.length && (await office.pending()) === 0;
}

await office.submit(payments);
await until('every payment is settled', areSettled);
console.log(`dead letters: ${(await office.deadLetters()).join(', ')}`);

bank.isOpen = true;
const { redriven, skipped } = await office.redriveRefusedPayments();
console.log(`the bank is open: ${redriven} put back, ${skipped} left`);
await until('every payment is settled', areSettled);
console.log(`paid: ${bank.paid.join(', ')}`);
console.log(`dead letters: ${(await office.deadLetters()).join(', ')}`);

await app.close();
