/** CRC-16/CDMA2000: not reflected, no final xor. */
const POLYNOMIAL = 0xc867;

/** The value of an empty text. */
export const CRC16_START = 0xffff;

const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ POLYNOMIAL : crc << 1;
  return crc;
});

/** @param crc of what comes before these bytes */
export function crc16(bytes: Uint8Array, crc: number = CRC16_START): number {
  let value = crc;
  for (let index = 0; index < bytes.length; index += 1) {
    value = ((value << 8) ^ (TABLE[(value >> 8) ^ (bytes[index] as number)] as number)) & 0xffff;
  }
  return value;
}
