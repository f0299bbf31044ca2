import type {} from './global-setup.ts';

export default async function globalTeardown(): Promise<void> {
  const redis = globalThis.sharedTestRedis;
  globalThis.sharedTestRedis = undefined;
  await redis?.stop();
}
