/** The tokens that a client keeps, and the one request that fetches the next: callers that meet there share it. */

import type { AccessToken } from "./results.js";
import { untilAborted } from "./waiting.js";

/** Milliseconds before its end from which on a token is not used any more: a request takes time. */
const SPENT = 5_000;

/**
 * A token with less life left than was asked for is the best one for now: the stack is asked again after this (ms). So is
 * one whose connection is in danger: the danger may be over.
 */
const AGAIN = 30_000;

/** Connections whose tokens are kept; the least recently used go first. */
const KEPT = 10_000;

/** What a caller needs: so many seconds of life left, and another generation than the one that FlowAccount refused. */
export interface Wanted {
  readonly minTtl: number;
  readonly rejected?: number;
}

interface Kept {
  readonly token: AccessToken;
  readonly minTtl: number;
  readonly fetchedAt: number;
}

interface Flight {
  readonly wanted: Wanted;
  readonly controller: AbortController;
  readonly token: Promise<AccessToken>;
  waiting: number;
}

let epoch = 0;

export class TokenCache {
  #begun = epoch;
  readonly #kept = new Map<string, Kept>();
  readonly #flights = new Map<string, Flight>();

  /**
   * The token that is kept, or the one that `fetch` brings; raises what that raises.
   *
   * `fetch` runs once for all who wait, and is aborted when all of them have given up; `signal` is this caller's alone.
   */
  async get(
    id: string,
    wanted: Wanted,
    fetch: (signal: AbortSignal) => Promise<AccessToken>,
    signal?: AbortSignal,
  ): Promise<AccessToken> {
    this.#begin();
    if (wanted.rejected !== undefined && this.#kept.get(id)?.token.generation === wanted.rejected)
      this.#kept.delete(id);
    for (;;) {
      signal?.throwIfAborted();
      const kept = this.#kept.get(id);
      if (kept && serves(kept, wanted)) {
        this.#kept.delete(id);
        this.#kept.set(id, kept); // Now the most recently used.
        return kept.token;
      }
      const joined = this.#flights.get(id);
      if (joined === undefined) return this.#wait(id, this.#start(id, wanted, fetch), signal);
      try {
        const token = await this.#wait(id, joined, signal);
        if (serves({ token, minTtl: joined.wanted.minTtl, fetchedAt: Date.now() }, wanted)) return token;
      } catch (error) {
        // The trouble of a request that asked for something else is not this caller's.
        if (signal?.aborted || joined.wanted.rejected === wanted.rejected) throw error;
      }
    }
  }

  /** The token that is kept, if it can still be sent. */
  living(id: string): AccessToken | undefined {
    const token = this.#kept.get(id)?.token;
    return token && token.expiresAt.getTime() - Date.now() > SPENT ? token : undefined;
  }

  /** Lets all clients of this process keep nothing any more. For tests. */
  static forgetAll(): void {
    epoch += 1;
  }

  #begin(): void {
    if (this.#begun === epoch) return;
    this.#begun = epoch;
    this.#kept.clear();
    this.#flights.clear();
  }

  /** Keeps nothing of this connection any more, not even what is on its way. */
  forget(id: string): void {
    this.#kept.delete(id);
    this.#flights.delete(id);
  }

  #start(id: string, wanted: Wanted, fetch: (signal: AbortSignal) => Promise<AccessToken>): Flight {
    const controller = new AbortController();
    const token = fetch(controller.signal).then(
      (found) => {
        if (this.#end(id, flight)) this.#keep(id, { token: found, minTtl: wanted.minTtl, fetchedAt: Date.now() });
        return found;
      },
      (error: unknown) => {
        this.#end(id, flight);
        throw error;
      },
    );
    const flight: Flight = { wanted, controller, token, waiting: 0 };
    this.#flights.set(id, flight);
    return flight;
  }

  async #wait(id: string, flight: Flight, signal: AbortSignal | undefined): Promise<AccessToken> {
    flight.waiting += 1;
    try {
      return await untilAborted(flight.token, signal);
    } finally {
      flight.waiting -= 1;
      if (flight.waiting === 0 && this.#end(id, flight)) flight.controller.abort();
    }
  }

  /** Whether the flight was under way until now. */
  #end(id: string, flight: Flight): boolean {
    return this.#flights.get(id) === flight && this.#flights.delete(id);
  }

  #keep(id: string, kept: Kept): void {
    this.#kept.delete(id);
    this.#kept.set(id, kept);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT && oldest !== undefined) this.#kept.delete(oldest);
  }
}

function serves(kept: Kept, wanted: Wanted): boolean {
  const now = Date.now();
  const left = kept.token.expiresAt.getTime() - now;
  const bestForNow = kept.minTtl >= wanted.minTtl && kept.fetchedAt <= now && now < kept.fetchedAt + AGAIN;
  const enough = !kept.token.inDanger && left >= wanted.minTtl * 1000;
  return kept.token.generation !== wanted.rejected && left > SPENT && (enough || bestForNow);
}
