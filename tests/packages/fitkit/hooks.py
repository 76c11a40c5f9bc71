def call_callback_hooks(trainer, name, *args):
    for callback in trainer.callbacks:
        function = getattr(callback, name, None)
        if callable(function):
            function(trainer, *args)


def call_module_hook(trainer, name, *args):
    return getattr(trainer.model, name)(*args)


def call_and_handle_interrupt(trainer, function, *args, **kwargs):
    """Whatever ends the run, the loggers are closed."""
    try:
        return function(*args, **kwargs)
    except KeyboardInterrupt:
        trainer.interrupted = True
    finally:
        trainer.logger.close()
