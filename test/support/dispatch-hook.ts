import { ClientProxy } from '@nestjs/microservices';
import type { ReadPacket } from '@nestjs/microservices';

/** A packet as a dispatch hook of Nest 12 may change it. */
export type HookedPacket = ReadPacket & { metadata?: Readonly<Record<string, string>> };

/** Nest 11 has neither the hook nor `createPacket`. */
export const HAS_DISPATCH_HOOK = 'setOnDispatchHook' in ClientProxy.prototype;

export function setDispatchHook<T extends ClientProxy>(client: T, hook: (packet: HookedPacket) => void): T {
  (client as unknown as { setOnDispatchHook(hook: (packet: HookedPacket) => void): void }).setOnDispatchHook(hook);
  return client;
}
