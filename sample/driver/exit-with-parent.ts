// Loaded into each service before its own code. The standard input of a service is a pipe from the driver: when the driver
// ends, for whatever reason, the pipe closes and the service ends as well. A service started by hand has no pipe.
process.stdin.once('end', () => process.exit(1)).resume();
// The pipe alone must not keep a service alive.
(process.stdin as { unref?: () => void }).unref?.();

export {};
