import 'reflect-metadata';
import { NatsJetStreamClientProxy, NatsJetStreamServer } from '@nestjs-plugins/nestjs-nats-jetstream-transport';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern } from '@nestjs/microservices';
import { StorageType } from 'nats';
import { lastValueFrom } from 'rxjs';

const TOPIC = 'event';
const STREAM = 'events';
const GROUP = 'bench';

/**
 * Opens a microservice and a client of it.
 * @param {string} servers address of the server
 * @param {() => void} onEvent called by the handler
 */
export async function openApp(servers, onEvent) {
  const connectionOptions = { servers, name: GROUP };
  const strategy = new NatsJetStreamServer({
    connectionOptions,
    streamConfig: { name: STREAM, subjects: [TOPIC], storage: StorageType.Memory },
    consumerOptions: { durable: GROUP, deliverGroup: GROUP, deliverTo: GROUP, manualAck: true },
  });
  // Other levels go to the standard output, which is for the results.
  const app = await NestFactory.createMicroservice(moduleWith(onEvent), { strategy, logger: ['error'] });
  await app.listen();
  const client = new NatsJetStreamClientProxy({ connectionOptions });
  const manager = await (await client.connect()).jetstreamManager();
  return {
    /** Resolves when the server has stored the event. */
    emit: (data) => lastValueFrom(client.emit(TOPIC, data), { defaultValue: undefined }),
    async areAllAcknowledged() {
      const { num_pending, num_ack_pending } = await manager.consumers.info(STREAM, `${GROUP}-${TOPIC}`);
      return num_pending + num_ack_pending === 0;
    },
    removeAll: () => manager.streams.purge(STREAM),
  };
}

function moduleWith(onEvent) {
  class EventController {
    handle({ message }) {
      onEvent();
      message.ack();
    }
  }
  const { prototype } = EventController;
  EventPattern(TOPIC)(prototype, 'handle', Object.getOwnPropertyDescriptor(prototype, 'handle'));
  Ctx()(prototype, 'handle', 0);
  Controller()(EventController);

  class BenchModule {}
  Module({ controllers: [EventController] })(BenchModule);
  return BenchModule;
}
