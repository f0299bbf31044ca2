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
  // Each payment three times in all, a quarter of a second apart and then half a second.
  retry: { attempts: 3, delay: 250, factor: 2, jitter: 0 },
  onDeadLetter: ({ message, reason }) => console.log(`${message.json<{ id: string }>().id}: dead, ${reason}`),
  // Dead letters that are put back are found at the next look for idle entries, which is every 30 s by default.
  autoClaimInterval: 500,
  autoCommitInterval: 100,
});

@Module({
  imports: [RedisStreamsModule.forRoot({ keyPrefix })],
  controllers: [PaymentsController],
  providers: [Bank, BackOffice],
})
class PaymentsModule {}

// Failures are logged as errors with their stack; here they belong to the story.
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
/** Each is paid or a dead letter, and acknowledged. */
async function areSettled(): Promise<boolean> {
  const settled = bank.paid.length + (await office.deadLetters()).length;
  return settled === payments.length && (await office.pending()) === 0;
}

await office.hand(payments);
await until('every payment is settled', areSettled);
console.log(`dead letters: ${(await office.deadLetters()).join(', ')}`);

bank.isOpen = true;
const { redriven, skipped } = await office.redriveWhatTheBankRefused();
console.log(`the bank is open: ${redriven} put back, ${skipped} left`);
await until('every payment is settled', areSettled);
console.log(`paid: ${bank.paid.join(', ')}`);
console.log(`dead letters: ${(await office.deadLetters()).join(', ')}`);

await app.close();
