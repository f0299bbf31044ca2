/** What was thrown, as text for a log: an Error's message, an object as JSON, anything else as it prints. */
export function errorText(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message;
  if (typeof thrown === 'string') return thrown;
  try {
    return JSON.stringify(thrown) ?? typeof thrown;
  } catch {
    return Object.prototype.toString.call(thrown);
  }
}

/** The same with the stack, where there is one. */
export function errorTextWithStack(thrown: unknown): string {
  return (thrown instanceof Error && thrown.stack) || errorText(thrown);
}
