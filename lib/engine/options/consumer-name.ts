import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** `HOST_ID`, else the id of the container that this process runs in, else the host's name. */
export function hostId(): string {
  return process.env['HOST_ID'] || containerId() || hostname();
}

function containerId(): string | undefined {
  try {
    return /(?:docker|containers|kubepods|libpod)[^\n]*?([0-9a-f]{64})/.exec(
      readFileSync('/proc/self/cgroup', 'utf8'),
    )?.[1];
  } catch {
    return undefined;
  }
}

/** A name that no other consumer has had, or will have. */
export function uniqueConsumerName(): string {
  return `${hostId()}:${process.pid}:${Date.now().toString(36)}${randomBytes(4).toString('hex')}`;
}
