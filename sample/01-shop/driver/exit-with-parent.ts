// Loaded into each service before its own code. A service's standard input is a pipe from the driver: when the driver is
// gone, whatever ended it, the pipe closes and the service ends as well. A service that is run by hand has no such pipe.
process.stdin.once('end', () => process.exit(1)).resume();
// The pipe alone must not keep a service alive.
(process.stdin as { unref?: () => void }).unref?.();

export {};
