"""From a ledger to tables, figures and a page; `compiling.compile_report` writes them all."""
