const SLOTS = 16_384;

/** CRC16-XMODEM (polynomial 0x1021) of every byte. */
const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc;
});

/** The part of a key that Cluster hashes: the text between its first `{` and the next `}`, unless that is empty. */
export function hashTagOf(key: string): string | undefined {
  const open = key.indexOf('{');
  const close = open === -1 ? -1 : key.indexOf('}', open + 1);
  return close > open + 1 ? key.slice(open + 1, close) : undefined;
}

/** The hash slot of a key, as in the specification of Redis Cluster. */
export function hashSlot(key: string): number {
  let crc = 0;
  for (const byte of Buffer.from(hashTagOf(key) ?? key))
    crc = ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] as number);
  return crc % SLOTS;
}
