/* The signal handler of a training process's helpers (DataLoader workers, pools): see ckptd_agent/shield.py.
 *
 * Python's own handlers are no good for this: they don't learn who sent a signal, and run only when the main
 * thread gets to it, while a worker that hangs in C must still end at its parent's terminate(). So this is machine
 * code, a few hundred bytes without a single relocation: scripts/shield.py makes ckptd_agent/native.py of it.
 * Only system calls, all of them async-signal-safe. */

typedef long word;
typedef unsigned char byte;

#define SIGNALS 65
#define TICK 100000000L       /* nanoseconds between looks at what became of a signal that is held back */
#define PATIENCE 1000000000L  /* in which a signal for all must have reached the training process too */

enum { NOBODY = 0, WATCHED = 1, PENDING = 2 };

/* Written by the training process, read by all its helpers. */
struct notice {
    volatile word trainer; /* its pid */
    volatile word state;
    volatile word noticed; /* CLOCK_MONOTONIC nanoseconds of its last notice */
};

/* Each process's own: private memory, copied by fork. */
struct own {
    const struct notice *notice;
    volatile word self;   /* its pid */
    volatile word parent; /* whose child it is; another one: it is orphaned */
    volatile word began;  /* when a signal was held back */
    volatile word seen;   /* the training process has had it as well */
    volatile word owner;  /* pid that the timers are of */
    struct { void *handler; word flags; int timer; int made; } of[SIGNALS]; /* what was there before us */
};

struct info { /* siginfo_t, as far as it is looked at */
    int number, error, code, pad;
    int pid, uid; /* or a timer's id and overruns */
    void *value;  /* of a timer */
};

struct event { void *value; int number, notify; byte pad[48]; };
struct action { void *handler; word flags; void *restorer; unsigned long mask; };
struct time { word seconds, nanoseconds; };
struct span { struct time interval, value; };

extern struct own *const slot __attribute__((visibility("hidden")));
__asm__(".section .text.slot,\"ax\"\n.balign 8\n.hidden slot\nslot: .quad 0\n.text\n");

#if defined(__x86_64__)
enum { RT_SIGACTION = 13, GETPID = 39, KILL = 62, GETPPID = 110, TIMER_CREATE = 222, TIMER_SETTIME = 223, CLOCK = 228 };
static inline word call(word n, word a, word b, word c, word d) {
    register word r10 __asm__("r10") = d;
    word back;
    __asm__ volatile("syscall" : "=a"(back) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return back;
}
#elif defined(__aarch64__)
enum { RT_SIGACTION = 134, GETPID = 172, KILL = 129, GETPPID = 173, TIMER_CREATE = 107, TIMER_SETTIME = 110, CLOCK = 113 };
static inline word call(word n, word a, word b, word c, word d) {
    register word x8 __asm__("x8") = n;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#endif

#define INSIDE static __attribute__((noinline))

INSIDE word now(void) {
    struct time t = {0, 0};
    call(CLOCK, 1, (word)&t, 0, 0); /* CLOCK_MONOTONIC */
    return t.seconds * 1000000000L + t.nanoseconds;
}

/* What the signal does without us. */
INSIDE void effect(struct own *own, int number, struct info *info, void *context) {
    word handler = (word)own->of[number].handler;
    if (handler == 1) return; /* SIG_IGN */
    if (handler == 0) {
        struct action plain;
        byte *each = (byte *)&plain;
        for (word i = 0; i < (word)sizeof plain; i++) ((volatile byte *)each)[i] = 0;
        call(RT_SIGACTION, number, (word)&plain, 0, 8);
        call(KILL, call(GETPID, 0, 0, 0, 0), number, 0, 0);
        return; /* it is blocked in its handler, and ends the process behind it */
    }
    ((void (*)(int, struct info *, void *))handler)(number, info, context);
}

/* Nobody is left for whom to survive. */
INSIDE int orphaned(struct own *own) {
    word trainer = own->notice->trainer, parent = call(GETPPID, 0, 0, 0, 0);
    int fresh = parent == own->self && call(GETPID, 0, 0, 0, 0) != own->self; /* forked, and not yet told so */
    if (parent != own->parent && !fresh) return 1;
    return trainer <= 0 || call(KILL, trainer, 0, 0, 0) == -3; /* ESRCH */
}

/* Who sends it may always do so: the process itself, its parent, the training process. */
INSIDE int from_family(struct own *own, struct info *info) {
    if (info->code != 0 && info->code != -1 && info->code != -6) return 0; /* SI_USER, SI_QUEUE, SI_TKILL have a pid */
    return info->pid > 0 && (info->pid == call(GETPPID, 0, 0, 0, 0) || info->pid == own->notice->trainer
                             || info->pid == call(GETPID, 0, 0, 0, 0));
}

/* Come here again in a moment; 0: that can't be had. */
INSIDE int wait(struct own *own, int number) {
    word pid = call(GETPID, 0, 0, 0, 0);
    if (own->owner != pid) { /* a fork keeps no timers */
        for (int i = 0; i < SIGNALS; i++) own->of[i].made = 0;
        own->owner = pid;
    }
    if (!own->of[number].made) {
        struct event event;
        byte *each = (byte *)&event;
        for (word i = 0; i < (word)sizeof event; i++) ((volatile byte *)each)[i] = 0;
        event.value = own;
        event.number = number;
        if (call(TIMER_CREATE, 1, (word)&event, (word)&own->of[number].timer, 0) != 0) return 0;
        own->of[number].made = 1;
    }
    struct span once = {{0, 0}, {0, TICK}};
    return call(TIMER_SETTIME, own->of[number].timer, 0, (word)&once, 0) == 0;
}

__attribute__((section(".text.entry"), used))
void shield(int number, struct info *info, void *context) {
    struct own *own = slot;
    const struct notice *notice = own->notice;
    int again = info->code == -2 && info->value == own; /* SI_TIMER: it is our own */
    word state = notice->state;
    if (state == NOBODY || orphaned(own) || (!again && from_family(own, info))) {
        effect(own, number, info, context);
        return;
    }
    if (!again) {
        own->began = now();
        own->seen = 0;
    }
    if (state == PENDING || notice->noticed >= own->began - PATIENCE) own->seen = 1;
    if (state != PENDING && own->seen) return; /* the notice was withdrawn or could not be followed: all goes on */
    if (!own->seen && now() - own->began > PATIENCE) { /* it was for this process alone */
        effect(own, number, info, context);
        return;
    }
    if (!wait(own, number)) effect(own, number, info, context);
}
