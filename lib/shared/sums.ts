/** The sum; 0 without numbers, undefined unless each of them is known. */
export function sumOf(numbers: readonly number[]): number;
export function sumOf(numbers: ReadonlyArray<number | undefined>): number | undefined;
export function sumOf(numbers: ReadonlyArray<number | undefined>): number | undefined {
  return numbers.reduce((sum, number) => (sum === undefined || number === undefined ? undefined : sum + number), 0);
}

/** The largest of numbers that are not negative; 0 without numbers, undefined unless each of them is known. */
export function largestOf(numbers: readonly number[]): number;
export function largestOf(numbers: ReadonlyArray<number | undefined>): number | undefined;
export function largestOf(numbers: ReadonlyArray<number | undefined>): number | undefined {
  return numbers.every((number) => number !== undefined) ? Math.max(0, ...numbers) : undefined;
}
