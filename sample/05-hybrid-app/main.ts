import 'reflect-metadata';
import type { AddressInfo, Server } from 'node:net';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, Transport } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import { RedisStreamsModule, ServerRedisStreams, getRedisStreamsToken } from '../../lib/index.js';
import type { ClientRedisStreams } from '../../lib/index.js';
import { until } from '../../test/support/until.js';
import { OrdersController, Stock } from './orders.js';

@Module({
  // With a group, the module also provides a server, with the same connection.
  imports: [RedisStreamsModule.forRoot({ keyPrefix: process.env['KEY_PREFIX'], group: 'orders-service' })],
  controllers: [OrdersController],
  providers: [Stock],
})
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'], forceCloseConnections: true });
app.connectMicroservice<MicroserviceOptions>({ strategy: app.get(ServerRedisStreams) });
// Port 0: a free port. Your application uses fixed ports.
const tcp = app.connectMicroservice<MicroserviceOptions>({
  transport: Transport.TCP,
  options: { host: '127.0.0.1', port: 0 },
});
app.enableShutdownHooks();
await app.startAllMicroservices();
await app.listen(Number(process.env['PORT'] ?? 0), '127.0.0.1');

// From here on the program acts as a client: over HTTP, over TCP, over streams.
const response = await fetch(`${await app.getUrl()}/orders`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ item: 'tea' }),
});
console.log(`http: ${response.status}`);
const stock = app.get(Stock);
await until('the order is handled', () => stock.reserved.length > 0);

const { port } = tcp.unwrap<Server>().address() as AddressInfo;
const tcpClient = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
await firstValueFrom(tcpClient.emit('orders', { item: 'coffee' }), { defaultValue: undefined });
console.log(await firstValueFrom(tcpClient.send<string>('reserved', {})));
const client = app.get<ClientRedisStreams>(getRedisStreamsToken());
console.log(await firstValueFrom(client.send<string>('reserved', {})));

await tcpClient.close();
await app.close();
