/**
 * How many of the free places a duty of the read loop may fill: half of them, and the only one every other time. A duty
 * that always has something to do would else leave none for what is new.
 */
export class DutyShare {
  #isTaken = false;

  of(places: number): number {
    if (places > 1) return Math.ceil(places / 2);
    this.#isTaken = !this.#isTaken;
    return this.#isTaken ? places : 0;
  }
}
