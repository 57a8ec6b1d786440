"""The proof that rotation loses nothing, made by visiting every state.

    python -m tests.model.explore            every invariant in every state: about a minute on two cores
    python -m tests.model.explore --deep     the same over millions of states
    python -m tests.model.mutants            every rule taken out of the real code, and what notices

What is explored is the *real* code: `Rotation.refresh` (of connections and of imports), `Callback.finish`,
`Confirmation.confirm` and `PendingCommits.apply` with the real stores over a DynamoDB in memory that evaluates their
real expressions. Read it in this order:

1. `invariants` says what must hold: the design's invariants 1 to 7, 9 and 11, one function each.
2. `world` says what can happen: a state, and every step from it. Workers call, are killed, are not answered; writes
   fail, are done unacknowledged, are repeated by the SDK, or arrive long after their sender gave up; requests to
   the server travel, are answered, falsely too, and lose their answers; KMS, Secrets Manager and the queues fail;
   leases run out; users reconnect and revoke; apps confirm, import and disconnect; operators change the secret and
   restore the table; and the rate and the endpoint's health may refuse to send, or to judge, at any time.
3. `server` is FlowAccount in four kinds, since nobody knows which it is: strict, forgiving, newest-only,
   family-revoking.
4. `process` runs the real code up to its next call, from the results of its calls so far. A worker's state is its
   history.
5. `explore` goes through all states, breadth first, and prints a shortest counterexample where there is one.
6. `mutants` changes one action of the real code at a time: the explorer must find the loss that the rule prevents.

`tests/contract` holds the DynamoDB in memory against two others.

What is proved, and what is not
-------------------------------
Within the bounds that each run prints (workers, starts, faults at a time; some configurations also end at a number of
states, which the run says too), and from every state with a working refresh token in the table or in the queue of
pending commits: with no further fault the connection becomes well again, without a new consent. And no action of ours
ever drops the last token that works. Not proved, because no client can do it, but for the last two:

- *The answer that the network loses*, on a server without grace: the token it held is gone. The model lets that
  happen; it demands that it be noticed (`doubt_is_recorded`, `rotation_lost`), and that nothing else is lost with
  it.
- *A worker killed between the answer and the commit* loses the same.
- *Table and queue both failing* until the invocation ends: reported as `lost`.
- *A server that refuses a good token twice*, ten minutes apart, while the endpoint is well: the connection ends.
- *A server that revokes the family*: where the table stays away beyond the lease and the queue is slower still, the
  replay of the old token ends the family. There the connection only *can* become well again: if the worker about to
  replay dies. Policy `never` is made for such a server.
- *A pending commit after a restore* may bring back a token that was spent in the history that was lost. It is refused,
  and the reason is `rejected`, not `rotation_lost`.

Bounds on time: the clock takes the values at which something changes (an exchange's end, a lease's, `refresh_at`,
the deadline); an invocation never outlives the function's timeout. Jitter is fixed at its most. The answers pass
through the real classification; the token endpoint's sockets, the sealing itself and what the token function serves
have tests of their own, and so have invariants 8 and 10, announced lifetimes, the rate, and what makes the endpoint
unwell.
"""
