import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';

import {
  RedisStreamsModule,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
  getRedisStreamsToken,
} from '../../lib/index.js';
import type { ClientRedisStreams } from '../../lib/index.js';
import { until } from '../../test/support/until.js';
import { AccountsController } from './accounts.js';
import type { Booking } from './accounts.js';
import { ClicksController } from './clicks.js';

const keyPrefix = process.env['KEY_PREFIX'];
const ACCOUNTS = ['ann', 'bob', 'eve'];
const BOOKINGS = 5;
const CLICKS = 1_000;

@Module({
  imports: [RedisStreamsModule.forRoot({ keyPrefix })],
  controllers: [ClicksController, AccountsController],
})
class LedgerModule {}

const app = await NestFactory.createMicroservice<MicroserviceOptions>(LedgerModule, {
  // A handler with `batch` or `ordered` has its own consumer: `batchSize` and `prefetch` apply to each of them.
  strategy: new ServerRedisStreams({ keyPrefix, group: 'ledger', batchSize: 200, autoCommitInterval: 100 }),
  // Without a logger: Eve's failures are intended, and would be logged as errors.
  logger: false,
});
app.enableShutdownHooks();
await app.listen();
const client = app.get<ClientRedisStreams>(getRedisStreamsToken());
const [clicks, accounts] = [app.get(ClicksController), app.get(AccountsController)];

const pages = Array.from({ length: CLICKS }, (_, index) => ({ page: index === 500 ? 'nowhere' : `/page/${index}` }));
await lastValueFrom(client.emitBatch('clicks', pages));
await until('all clicks are handled', () => clicks.stored + clicks.refused.length >= CLICKS);
console.log(
  `clicks: ${clicks.stored} stored in ${clicks.batches.length} batches of at most ${Math.max(...clicks.batches)}`,
);
console.log(`refused: ${clicks.refused.join(', ')}`);

const bookings = Array.from({ length: BOOKINGS }, (_, index) => index + 1).flatMap((number) =>
  ACCOUNTS.map((account) => new RedisStreamsRecordBuilder<Booking>({ account, number }).setKey(account).build()),
);
await lastValueFrom(client.emitBatch('bookings', bookings));
await until('all is booked', () => accounts.booked.length >= bookings.length);
for (const account of ACCOUNTS) {
  const own = accounts.booked.filter((booking) => booking.startsWith(account));
  console.log(`${account}: ${own.map((booking) => booking.slice(account.length + 1)).join(' ')}`);
}
console.log(`at once: ${accounts.mostAtOnce}; last: ${accounts.booked.at(-1)}`);

await app.close();
